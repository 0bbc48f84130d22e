//! What is told of each request, elsewhere than to its client: the access log, and spans.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::access_log::{AccessLog, Writer};
use crate::clock;
use crate::config::Config;
use crate::gateway::Lasting;
use crate::traces::{Exporter, Tracer};

use super::NotStarted;

/// So long a collector that hangs is waited for once every request has ended, and a disk at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whoever tells it.
pub(super) struct Recording {
    access_log: Option<Arc<AccessLog>>,
    writer: Option<Writer>,
    exporter: Option<Exporter>,
}

impl Recording {
    /// Begins, and has what requests are answered with told of.
    pub(super) fn start(config: &Config, lasting: Lasting) -> Result<(Self, Lasting), NotStarted> {
        let stats = lasting.stats();
        let log = config.access_log.as_ref().map(|log| {
            AccessLog::start(log, Arc::clone(stats)).map_err(|source| {
                let file = log.file.as_deref().map(|file| file.display().to_string());
                NotStarted::AccessLog { file: file.unwrap_or_default(), source }
            })
        });
        let (access_log, writer) = log.transpose()?.unzip();
        let tracer = config.tracing.as_ref().map(|it| Tracer::start(it, Arc::clone(stats)));
        let (tracer, exporter) = tracer.unzip();
        let lasting = lasting.with_access_log(access_log.clone()).with_tracer(tracer);
        Ok((Self { access_log, writer, exporter }, lasting))
    }

    /// Has the file of the access log opened anew.
    pub(super) fn reopen(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
    }

    /// Tells what is left. Of a disk that is slow, every line is waited for until the `end` of the drain.
    pub(super) async fn end(self, end: Instant) {
        let Self { writer, exporter, .. } = self;
        let patience = Instant::from_std(clock::instant() + PATIENCE);
        let written = async {
            if let Some(writer) = writer {
                let written = tokio::task::spawn_blocking(|| writer.end());
                if timeout_at(end.max(patience), written).await.is_err() {
                    warn!("the disk took too long, and the end of the access log is lost");
                }
            }
        };
        let told = async {
            if let Some(exporter) = exporter
                && timeout_at(patience, exporter.end()).await.is_err()
            {
                debug!("the last spans were given up");
            }
        };
        tokio::join!(written, told);
    }
}
