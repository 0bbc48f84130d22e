//! The terminal while something is drawn on it.
//!
//! Rows of text, a size and single keys are all that is wanted of it, which rustix and four escape
//! sequences give; a library for terminals would bring ten crates for it.

use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::terminal;

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal as it was, while it is ours. A panic looks for it from wherever it happens.
static FORMER: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal, ours until this is dropped: then it is as it was. After a panic it is so before the message,
/// which would be gone with the other screen.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Screen<'a> {
    /// Takes the terminal of standard input.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn open(out: &'a mut dyn Write) -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut own = former.clone();
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            give_back();
            tell(what);
        }));
        // Keys one by one, unseen, Ctrl-C and Ctrl-Z among them: a stopped program would leave the
        // terminal like this.
        own.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        own.special_codes[SpecialCodeIndex::VMIN] = 1;
        own.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &own)?;
        let screen = Self { out };
        *FORMER.lock().unwrap_or_else(PoisonError::into_inner) = Some(former);
        screen.out.write_all(ENTER.as_bytes())?;
        screen.out.flush()?;
        Ok(screen)
    }

    /// Draws these lines from the top, each as far as it fits.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (columns, rows) = size();
        let mut frame = String::from("\x1b[H");
        for (index, line) in lines.iter().take(rows).enumerate() {
            if index > 0 {
                frame.push_str("\r\n");
            }
            frame.extend(line.chars().filter(|c| !terminal::controls(*c)).take(columns));
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J");
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was, once. Past what buffers standard output: it may be that which panics.
fn give_back() {
    let former = FORMER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(former) = former {
        // A terminal that is gone cannot be given back.
        let _written = rustix::io::write(io::stdout(), LEAVE.as_bytes());
        let _restored = tcsetattr(io::stdin(), OptionalActions::Now, &former);
    }
}

/// Columns and rows.
pub(super) fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stdin()).map(|size| (size.ws_col, size.ws_row));
    // A terminal that does not know its size says zero.
    let (columns, rows) = size.ok().filter(|it| it.0 > 0 && it.1 > 0).unwrap_or((80, 24));
    (columns.into(), rows.into())
}
