//! Standard output, and what a command comes to whose output cannot be written.

use std::io::{self, ErrorKind, Stdout, Write};

use rustix::termios::tcgetwinsize;

use super::{Exit, say};

/// Standard output. It keeps why something could not be written: what a command has done does not hang on
/// whether it could be told.
pub(super) struct Output {
    to: Stdout,
    lost: Option<(ErrorKind, String)>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { to: io::stdout(), lost: None }
    }

    /// Keeps how an attempt to write there has ended, and gives it back.
    pub(super) fn keep<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && error.kind() != ErrorKind::Interrupted
            && self.lost.is_none()
        {
            self.lost = Some((error.kind(), error.to_string()));
        }
        done
    }

    /// What a command comes to that has done its work, and has nothing more to tell. Who reads no further, as
    /// `head` does, has what it wanted.
    pub(super) fn close(mut self, exit: Exit, err: &mut dyn Write) -> Exit {
        let _kept = self.flush();
        match self.lost {
            None | Some((ErrorKind::BrokenPipe, _)) => exit,
            Some((_, why)) => {
                let exit = if exit == Exit::Done { Exit::Failed } else { exit };
                say(err, exit, &format!("the output cannot be written: {why}"))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.to.write(octets);
        self.keep(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.to.flush();
        self.keep(flushed)
    }
}

/// How much of a line a terminal at standard error shows. What goes beyond cannot be wiped with the line.
pub(super) fn columns() -> usize {
    let size = tcgetwinsize(io::stderr()).map(|size| usize::from(size.ws_col));
    // A terminal that does not know its size says zero.
    size.ok().filter(|columns| *columns > 0).unwrap_or(80)
}
