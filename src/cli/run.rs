//! `larder run`: assemble, serve, drain.

use std::future::pending;
use std::io::{ErrorKind, Write};
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{self, Admin, Config, Draft, Fault, Faults};
use crate::server::Drained;
use crate::service::{Assembly, Next, NotStarted, Service, Source, Supervised};
use crate::telemetry::with_causes;

use super::{Exit, Run, say, with_hint};

/// So long a process that is to end waits for what comes of one that is taking over from it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until a signal.
pub(super) fn run(arguments: &Run, _out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    // Before there is another thread.
    let supervised = Supervised::of_environment();
    on_control_runtime(err, async |signals, err| {
        // Without a file there is nothing to reload, and SIGHUP ends the program as it does by default.
        let hangup = arguments.upstream.is_none().then(|| signal(SignalKind::hangup()));
        let hangup = match hangup.transpose() {
            Ok(hangup) => hangup,
            Err(error) => return say(err, Exit::Failed, &format!("no signals: {error}")),
        };
        let assembly = match assembled(arguments, signals).await {
            Ok(Some(assembly)) => assembly,
            Ok(None) => return not_begun(),
            Err(faults) => return say(err, Exit::Faulty, &faults.to_string()),
        };
        let stop = CancellationToken::new();
        let starting = pin!(assembly.start_in_place(supervised, Clock::System, &stop));
        let (started, is_told) = start(starting, &stop, signals).await;
        let mut service = match started {
            Err(error) => {
                return say(err, Exit::Failed, &(with_causes(&error) + advice(&error)));
            }
            Ok(None) => return not_begun(),
            Ok(Some(service)) => service,
        };
        let admin = service.admin_address().map(display);
        info!(address = %service.address(), admin, "listening");
        for address in service.addresses().iter().skip(1) {
            info!(%address, "listening here, too");
        }
        if is_told {
            return drain(service, signals).await;
        }
        if let Some((next, is_told)) = serve(&service, signals, hangup).await {
            service.give_way(next).await;
            return drain_behind_another(service, signals, is_told).await;
        }
        drain(service, signals).await
    })
}

/// What there is to start; none if a signal has come first. What is being read or compiled then is left
/// behind: a file system that hangs cannot be told to stop.
async fn assembled(arguments: &Run, signals: &mut Signals) -> Result<Option<Assembly>, Faults> {
    let own = arguments.clone();
    let assembling = spawn_blocking(move || assemble(&own));
    tokio::select! {
        biased;
        () = signals.next() => Ok(None),
        assembled = assembling => match assembled {
            Ok(assembled) => assembled.map(Some),
            Err(error) => Err(vec![Fault::new("larder run", None, error.to_string())].into()),
        },
    }
}

fn not_begun() -> Exit {
    info!("stopped before it began, nothing was taken over");
    Exit::Done
}

/// What a start comes to, and whether a signal has come meanwhile: then it is told to stop, if it still can.
async fn start(
    mut starting: Pin<&mut impl Future<Output = Result<Option<Service>, NotStarted>>>,
    stop: &CancellationToken,
    signals: &mut Signals,
) -> (Result<Option<Service>, NotStarted>, bool) {
    tokio::select! {
        // A start keeps this thread for a while. What has come in that time is to be heard first.
        biased;
        () = signals.next() => stop.cancel(),
        started = starting.as_mut() => return (started, false),
    }
    (starting.await, true)
}

/// What to do about it, where that is known.
fn advice(error: &NotStarted) -> &'static str {
    let NotStarted::Listening { source, .. } = error else { return "" };
    match source.kind() {
        ErrorKind::AddrInUse => {
            "\n  hint: another process listens there: end it, write another `listen`, or have it taken over by \
             `[server] takeover`"
        }
        ErrorKind::AddrNotAvailable => "\n  hint: this machine has no such address",
        ErrorKind::PermissionDenied => {
            "\n  hint: a port below 1024 takes root, or the capability CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// Waits for the signal to end, or for a process that takes this one's place, and says whether that came
/// after the signal; each SIGHUP until then has the file read again.
async fn serve(
    service: &Service,
    signals: &mut Signals,
    hangup: Option<Signal>,
) -> Option<(Next, bool)> {
    let mut taken = pin!(service.taken());
    let mut hangup = hangup;
    loop {
        let reload = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = signals.next() => break,
            next = &mut taken => return Some((next, false)),
            _ = reload => service.reload(),
        }
    }
    // If this one ended now, a new one that has begun to take over would not start, and nobody would serve.
    tokio::select! {
        biased;
        next = taken => Some((next, true)),
        () = service.decided() => None,
        () = signals.next() => None,
        () = sleep(PATIENCE) => None,
    }
}

/// Does `work` on the runtime of everything but clients' connections: signals, the admin listener,
/// Redis.
pub(super) fn on_control_runtime(
    err: &mut dyn Write,
    work: impl AsyncFnOnce(&mut Signals, &mut dyn Write) -> Exit,
) -> Exit {
    let mut builder = Builder::new_multi_thread();
    let runtime = match builder.worker_threads(1).thread_name("control").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(err, Exit::Failed, &format!("no runtime: {error}")),
    };
    let exit = runtime.block_on(async {
        match Signals::new() {
            Ok(mut signals) => work(&mut signals, err).await,
            Err(error) => say(err, Exit::Failed, &format!("no signals: {error}")),
        }
    });
    // To drop it would wait for the workers of a drain that a second signal has cut short.
    runtime.shutdown_background();
    exit
}

/// Ends a service gracefully; a second signal ends it at once.
pub(super) async fn drain(service: Service, signals: &mut Signals) -> Exit {
    info!("stopping: no more connections, running requests end");
    drained(service, signals.next()).await
}

/// The same, of one whose place another process has. So it ends by itself, and the first signal says
/// nothing new, unless it has come already.
async fn drain_behind_another(service: Service, signals: &mut Signals, is_told: bool) -> Exit {
    info!("stopping: another process has taken over, running requests end");
    let second = async {
        if !is_told {
            signals.next().await;
        }
        signals.next().await;
    };
    drained(service, second).await
}

async fn drained(service: Service, again: impl Future<Output = ()>) -> Exit {
    match ended(service.drain(), again).await {
        Drained::All => {
            info!("stopped, every request was answered");
            Exit::Done
        }
        Drained::Cut => {
            warn!("stopped, requests that were still running were broken off");
            Exit::Cut
        }
    }
}

/// What a drain comes to that a second signal cuts short. What it leaves to be done after the last
/// request is cut short, too, and no request is broken off by that.
///
/// Whoever signals a whole group, as timeout(1) does, may signal us twice, a moment apart. Nothing is
/// broken off then that would have ended by itself in that moment, least of all where nothing runs.
async fn ended<Rest: Future<Output = ()>>(
    drain: impl Future<Output = (Drained, Rest)>,
    again: impl Future<Output = ()>,
) -> Drained {
    const MOMENT: Duration = Duration::from_millis(100);
    // Until it is known.
    let mut drained = Drained::Cut;
    {
        let mut whole = pin!(async {
            let (requests, rest) = drain.await;
            drained = requests;
            rest.await;
        });
        let is_signalled = tokio::select! {
            () = &mut whole => false,
            () = again => true,
        };
        if is_signalled {
            // What it has come to until then is in `drained`.
            drop(tokio::time::timeout(MOMENT, whole).await);
        }
    }
    drained
}

/// SIGTERM and SIGINT (Ctrl-C).
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both from now on.
    pub(super) fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

fn assemble(arguments: &Run) -> Result<Assembly, Faults> {
    const HINT: &str = "`larder run --upstream URL` caches one API without a file, and `larder demo` shows the \
                        whole at work";

    let Run { table, upstream, listen, admin } = arguments;
    if let Some(url) = upstream {
        let admin = admin.map(|listen| Admin { listen, token: None });
        let listen = listen.unwrap_or_else(|| config::Server::default().listener.listen);
        let config = Config::for_upstream(url, listen, admin)?;
        return Assembly::new(Draft { config, faults: Vec::new() }, "--upstream");
    }
    let file = table.file();
    let read = Assembly::read(Source { file: file.to_owned(), listen: *listen });
    read.map_err(|faults| with_hint(faults, file, HINT))
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    #[tokio::test]
    async fn a_second_signal_breaks_off_only_what_still_runs() {
        let idle = async {
            tokio::task::yield_now().await;
            (Drained::All, ready(()))
        };
        assert_eq!(ended(idle, ready(())).await, Drained::All);
        assert_eq!(ended(pending::<(_, Ready<()>)>(), ready(())).await, Drained::Cut);
        assert_eq!(ended(ready((Drained::Cut, ready(()))), pending()).await, Drained::Cut);
        // What is left when every request was answered is no request.
        assert_eq!(ended(ready((Drained::All, pending())), ready(())).await, Drained::All);
    }
}
