//! What the two processes say to each other.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::UnixStream;

/// No list of records has more octets: some 10,000 with the longest patterns.
const LONGEST: usize = 64 << 20;

/// One thing that is said. Each begins with an octet of its own; another version of the program, which
/// says other things, uses others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Take,
    /// Sockets come, but not yet.
    Wait,
    /// With a socket.
    Socket,
    NoMore,
    LeaveDisk,
    DiskLeft,
    Ready,
    Yours,
    Gone,
    /// Packed.
    Records(Vec<u8>),
    Applied,
}

impl Message {
    pub(super) fn octets(&self) -> Vec<u8> {
        let first = match self {
            Self::Take => b'T',
            Self::Wait => b'W',
            Self::Socket => b'S',
            Self::NoMore => b'N',
            Self::LeaveDisk => b'D',
            Self::DiskLeft => b'd',
            Self::Ready => b'R',
            Self::Yours => b'Y',
            Self::Gone => b'G',
            Self::Records(_) => b'I',
            Self::Applied => b'i',
        };
        let mut octets = vec![first];
        if let Self::Records(records) = self {
            octets.extend((records.len() as u64).to_be_bytes());
            octets.extend(records);
        }
        octets
    }

    /// What is said next.
    ///
    /// # Errors
    /// It is not understood, or the other process has gone.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        match from.read_u8().await? {
            b'I' => {
                let length = usize::try_from(from.read_u64().await?).unwrap_or(usize::MAX);
                if length > LONGEST {
                    return Err(not_understood());
                }
                let mut records = vec![0; length];
                from.read_exact(&mut records).await?;
                Ok(Self::Records(records))
            }
            octet => Self::of(octet).ok_or_else(not_understood),
        }
    }

    fn of(octet: u8) -> Option<Self> {
        Some(match octet {
            b'T' => Self::Take,
            b'W' => Self::Wait,
            b'S' => Self::Socket,
            b'N' => Self::NoMore,
            b'D' => Self::LeaveDisk,
            b'd' => Self::DiskLeft,
            b'R' => Self::Ready,
            b'Y' => Self::Yours,
            b'G' => Self::Gone,
            b'i' => Self::Applied,
            _ => return None,
        })
    }
}

/// What is handed over, one thing at a time.
pub(super) enum Handed {
    Socket(OwnedFd),
    /// Nothing yet.
    Wait,
    NoMore,
}

/// What does not belong here.
pub(super) fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other process says something else")
}

/// Sends a socket. This one stays open, too.
pub(super) async fn send_socket(to: &UnixStream, socket: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        to.writable().await?;
        match to.try_io(Interest::WRITABLE, || send(to.as_fd(), socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}

/// Takes a socket, or hears that there is none.
pub(super) async fn receive_socket(from: &UnixStream) -> io::Result<Handed> {
    loop {
        from.readable().await?;
        match from.try_io(Interest::READABLE, || receive(from.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

fn send(to: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    with.push(SendAncillaryMessage::ScmRights(&sockets));
    let octets = Message::Socket.octets();
    sendmsg(to, &[IoSlice::new(&octets)], &mut with, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Octet by octet: a socket comes with that which stands for it.
fn receive(from: BorrowedFd<'_>) -> io::Result<Handed> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut octet)], &mut with, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sockets = with.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    match (Message::of(octet[0]), sockets.flatten().next()) {
        (Some(Message::Socket), Some(socket)) => Ok(Handed::Socket(socket)),
        (Some(Message::Wait), None) => Ok(Handed::Wait),
        (Some(Message::NoMore), None) => Ok(Handed::NoMore),
        _ => Err(not_understood()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard() {
        let said = [
            Message::Take,
            Message::Wait,
            Message::Socket,
            Message::NoMore,
            Message::LeaveDisk,
            Message::DiskLeft,
            Message::Ready,
            Message::Yours,
            Message::Gone,
            Message::Records(Vec::new()),
            Message::Records(vec![7; 300]),
            Message::Applied,
        ];
        let octets: Vec<u8> = said.iter().flat_map(Message::octets).collect();
        let mut from = &*octets;
        for message in said {
            assert_eq!(Message::read(&mut from).await.unwrap(), message);
        }
        for other in [&b""[..], b"X", b"I\x7f\xff\xff\xff\xff\xff\xff\xff", b"I\0\0\0\0\0\0\0\x02a"]
        {
            assert!(Message::read(&mut &*other).await.is_err(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_the_same_in_the_other_hand() {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        one.try_write(&Message::Wait.octets()).unwrap();
        send_socket(&one, listener.as_fd()).await.unwrap();
        one.try_write(&Message::NoMore.octets()).unwrap();
        assert!(matches!(receive_socket(&other).await, Ok(Handed::Wait)));
        let Ok(Handed::Socket(taken)) = receive_socket(&other).await else {
            panic!("it is a socket");
        };
        let taken = std::net::TcpListener::from(taken);
        assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(matches!(receive_socket(&other).await, Ok(Handed::NoMore)));
        // What says that it is a socket and is none.
        one.try_write(&Message::Socket.octets()).unwrap();
        assert!(receive_socket(&other).await.is_err());
    }
}
