//! A server of HTTP/2 whose streams the test answers one by one.

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;

/// A server on a free port. Dropping it closes the port and every connection.
pub(crate) struct Streams {
    port: u16,
    came: UnboundedReceiver<Stream>,
    _serving: JoinSet<()>,
}

/// A stream whose request's head has come.
pub(crate) struct Stream {
    /// Which connection it is on, the first of all being 1.
    pub(crate) connection: usize,
    pub(crate) request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
    connections: UnboundedSender<Then>,
}

/// What a connection does then.
enum Then {
    /// It takes no more streams, and ends with the last.
    Leave,
    /// It reads and writes no more.
    Hang,
}

impl Streams {
    /// In cleartext. Each connection takes so many streams at once.
    pub(crate) async fn start(most: u32) -> Self {
        Self::serve(most, None).await
    }

    /// Over TLS, whose handshake must offer `h2`.
    pub(crate) async fn secure(acceptor: TlsAcceptor) -> Self {
        Self::serve(100, Some(acceptor)).await
    }

    async fn serve(most: u32, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (streams, came) = unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, streams) = (acceptor.clone(), streams.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => speak(number, stream, most, streams).await,
                        Some(acceptor) => {
                            // Who does not believe us ends the handshake.
                            if let Ok(stream) = acceptor.accept(stream).await {
                                speak(number, stream, most, streams).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, came, _serving: serving }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next stream.
    pub(crate) async fn next(&mut self) -> Stream {
        let next = tokio::time::timeout(PATIENCE, self.came.recv()).await;
        next.expect("no request in time").expect("it serves")
    }
}

async fn speak<S>(number: usize, stream: S, most: u32, streams: UnboundedSender<Stream>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    let handshake = builder.max_concurrent_streams(most).handshake(stream).await;
    // A client that leaves at once is none.
    let Ok(mut connection): Result<Connection<S, Bytes>, _> = handshake else { return };
    let (connections, mut then) = unbounded_channel();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, answer))) = accepted else { return };
                let connections = connections.clone();
                let _gone = streams.send(Stream { connection: number, request, answer, connections });
            }
            Some(then) = then.recv() => match then {
                Then::Leave => connection.graceful_shutdown(),
                Then::Hang => std::future::pending().await,
            },
        }
    }
}

impl Stream {
    /// The path and query.
    pub(crate) fn target(&self) -> &str {
        self.request.uri().path_and_query().unwrap().as_str()
    }

    /// A field of the request.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// Answers with 200 and this content.
    pub(crate) fn answer(mut self, content: &'static str) {
        let mut sending = self.begin(&[]);
        sending.send_data(Bytes::from_static(content.as_bytes()), true).unwrap();
    }

    /// Answers with 200 and these fields; the content is still to come.
    pub(crate) fn begin(&mut self, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.begin_with(200, fields)
    }

    /// The same with another status.
    pub(crate) fn begin_with(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        self.answer.send_response(response.body(()).unwrap(), false).unwrap()
    }

    /// Sends this before the answer.
    pub(crate) fn inform(&mut self, status: u16, fields: &[(&str, &str)]) {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        self.answer.send_informational(response.body(()).unwrap()).unwrap();
    }

    /// Says that nothing was done of it.
    pub(crate) fn refuse(mut self) {
        self.answer.send_reset(Reason::REFUSED_STREAM);
    }

    /// Its connection ends with the streams that are on it (`GOAWAY`).
    pub(crate) fn leave(&self) {
        self.connections.send(Then::Leave).unwrap();
    }

    /// Its connection hangs from now on.
    pub(crate) fn hang(&self) {
        self.connections.send(Then::Hang).unwrap();
    }

    /// Waits until the client gives it up, and says why.
    pub(crate) async fn given_up(&mut self) -> Reason {
        in_time(std::future::poll_fn(|cx| self.answer.poll_reset(cx))).await
    }

    /// The next piece of the request's content; none at its end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        loop {
            let piece = tokio::time::timeout(PATIENCE, self.request.body_mut().data());
            let piece = piece.await.expect("no piece in time")?.unwrap();
            let _closed = self.request.body_mut().flow_control().release_capacity(piece.len());
            // The end may be a frame of its own.
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }
}

/// Waits until the client gives up a stream that is being answered, and says why.
pub(crate) async fn given_up(content: &mut SendStream<Bytes>) -> Reason {
    in_time(std::future::poll_fn(|cx| content.poll_reset(cx))).await
}

async fn in_time(reset: impl Future<Output = Result<Reason, h2::Error>>) -> Reason {
    tokio::time::timeout(PATIENCE, reset).await.expect("it is not given up").unwrap()
}
