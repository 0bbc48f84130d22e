//! The `larder` program: arguments in, an exit code out. See [`larder::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::cli::main(std::env::args_os())
}
