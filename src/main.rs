//! The `larder` program: arguments in, an exit code out. See [`larder::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    larder::cli::main(std::env::args_os())
}
