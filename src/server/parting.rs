//! The end of a connection on which the other end may still be sending.
//!
//! A socket that is closed with octets unread resets its connection, and the reset overtakes what was written
//! last: the client would not hear why.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// So long, and so many octets more are read, of a client that goes on sending.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST: usize = 256 << 10;

/// Sends no more, and drops what comes until the other end has closed or it has been enough.
pub(super) async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let parting = async {
        stream.shutdown().await?;
        let mut octets = vec![0; 4 << 10];
        let mut came = 0;
        while came < MOST {
            match stream.read(&mut octets).await? {
                0 => break,
                count => came += count,
            }
        }
        io::Result::Ok(())
    };
    // Whatever it comes to, it is over.
    drop(timeout(PATIENCE, parting).await);
}

/// Sends no more where nothing is being sent either way.
pub(super) async fn leave(mut stream: impl AsyncWrite + Unpin) {
    drop(timeout(PATIENCE, stream.shutdown()).await);
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn who_reads_on_and_closes_is_not_waited_for_longer() {
        let (ours, mut theirs) = duplex(64);
        let client = async {
            theirs.write_all(&[7; 1000]).await.unwrap();
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.unwrap();
            drop(theirs);
            rest
        };
        let (rest, ()) = tokio::join!(client, part(ours));
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn who_goes_on_sending_is_left() {
        let (ours, mut theirs) = duplex(64);
        let endless = async { while theirs.write_all(&[7; 1000]).await.is_ok() {} };
        tokio::join!(endless, part(ours));
    }
}
