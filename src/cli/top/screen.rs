//! The terminal while something is drawn on it.
//!
//! Rows of text, a size and single keys are all that is wanted of it, which rustix and four escape
//! sequences give; a library for terminals would bring ten crates for it.

use std::io::{self, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal, ours until this is dropped: then it is as it was, also where a panic drops it.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    former: Termios,
}

impl<'a> Screen<'a> {
    /// Takes the terminal of standard input.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn open(out: &'a mut dyn Write) -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut own = former.clone();
        // Keys one by one, unseen, Ctrl-C and Ctrl-Z among them: a stopped program would leave the
        // terminal like this.
        own.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        own.special_codes[SpecialCodeIndex::VMIN] = 1;
        own.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &own)?;
        let screen = Self { out, former };
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
            frame.extend(line.chars().filter(|c| !c.is_control()).take(columns));
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J");
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // A terminal that is gone cannot be given back.
        drop(self.out.write_all(LEAVE.as_bytes()).and_then(|()| self.out.flush()));
        let _restored = tcsetattr(io::stdin(), OptionalActions::Now, &self.former);
    }
}

/// Columns and rows.
pub(super) fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stdin()).map(|size| (size.ws_col, size.ws_row));
    // A terminal that does not know its size says zero.
    let (columns, rows) = size.ok().filter(|it| it.0 > 0 && it.1 > 0).unwrap_or((80, 24));
    (columns.into(), rows.into())
}
