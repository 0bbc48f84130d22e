//! The examples of the docs as their reader follows them: commands as they stand there, in one bash, on
//! other ports.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{PATIENCE, free_port, secs};

/// The commands of a section, each with what it prints there.
pub fn commands(text: &str, heading: &str) -> Vec<(String, Vec<String>)> {
    let mark = heading.split(' ').next().unwrap_or_default();
    let section = text.split(&format!("\n{heading}\n")).nth(1).expect("the section is there");
    let section = section.split(&format!("\n{mark} ")).next().unwrap_or_default();
    let blocks = section.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), Vec::new())),
            None => commands.last_mut().expect("a command first").1.push(line.to_owned()),
        }
    }
    commands
}

/// A folder of the docs, with other ports in its files.
pub fn copied(folder: &Path, ports: &Ports) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for file in fs::read_dir(folder).expect("the folder is there") {
        let file = file.expect("the folder is read");
        let text = ports.put_into(&fs::read_to_string(file.path()).expect("it holds text"));
        fs::write(copy.path().join(file.file_name()), text).expect("the copy is ours");
    }
    copy
}

/// As [`until`](super::until), and looking takes a while.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(secs(1) / 100).await;
        }
    };
    assert!(tokio::time::timeout(6 * PATIENCE, looking).await.is_ok(), "never happened: {what}");
}

/// Another port for each of those in an example.
pub struct Ports(BTreeMap<u16, u16>);

impl Ports {
    /// They are free, and each is another.
    pub fn free(all: impl IntoIterator<Item = u16>) -> Self {
        Self(all.into_iter().map(|port| (port, free_port())).collect())
    }

    /// A text of the example, with these ports.
    pub fn put_into(&self, text: &str) -> String {
        // By way of names, as a free port may be one of the README's.
        let named = self.0.keys().fold(text.to_owned(), |text, port| {
            text.replace(&port.to_string(), &format!("<port {}>", letters(*port)))
        });
        self.0.iter().fold(named, |text, (port, free)| {
            text.replace(&format!("<port {}>", letters(*port)), &free.to_string())
        })
    }

    /// Where it listens that has this port in the example.
    pub fn address(&self, port: u16) -> SocketAddr {
        ([127, 0, 0, 1], self.0[&port]).into()
    }

    /// Those that a command names.
    pub fn named_by(&self, command: &str) -> Vec<SocketAddr> {
        let named = self.0.keys().filter(|port| command.contains(&port.to_string()));
        named.map(|port| self.address(*port)).collect()
    }

    /// What was printed, with what differs from run to run as in the example's text: ports are the
    /// example's, and other numbers `#`.
    pub fn shown(&self, printed: &str) -> String {
        let mut text = printed.to_owned();
        for (port, free) in &self.0 {
            text = text.replace(&format!(":{free}"), &format!(":{}", letters(*port)));
            text = text.replace(&format!(":{port}"), &format!(":{}", letters(*port)));
        }
        let mut shown = String::new();
        for c in text.chars() {
            match c.is_ascii_digit() {
                true if shown.ends_with('#') => {}
                true => shown.push('#'),
                false => shown.push(c),
            }
        }
        shown
    }
}

/// A port in letters, which are no number.
fn letters(port: u16) -> String {
    port.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

/// A bash that is given line by line. Dropping it kills all that it has started.
pub struct Bash {
    child: Child,
    to: ChildStdin,
    printed: UnboundedReceiver<String>,
}

impl Bash {
    /// In this folder, with the program that was built and other programs on the path.
    pub fn start(folder: &Path, path: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_larder")).parent().expect("it is in a folder");
        let path = format!("{}:{path}", program.display());
        let mut child = Command::new("bash")
            .current_dir(folder)
            .env("PATH", path)
            // What it starts stays in its group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("bash.log")).expect("the folder is ours"))
            .spawn()
            .expect("`bash` must be installed");
        let (line, printed) = unbounded_channel();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|it| line.send(it))
        });
        let to = child.stdin.take().expect("it is piped");
        Self { child, to, printed }
    }

    /// Its exit code, and what it prints.
    pub async fn run(&mut self, command: &str) -> (String, Vec<String>) {
        // `curl` ends no line.
        writeln!(self.to, "{command}\nprintf '\\n= %s\\n' $?").expect("bash reads");
        let mut lines = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(6 * PATIENCE, self.printed.recv()).await {
            if let Some(code) = line.strip_prefix("= ") {
                lines.retain(|line: &String| !line.is_empty());
                return (code.to_owned(), lines);
            }
            lines.push(line);
        }
        panic!("`{command}` does not end; it printed {lines:?}");
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // All have ended, as a rule.
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.child.wait());
    }
}
