//! Hands the process's arguments to the library and its verdict to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exit = match runtime {
        Ok(runtime) => runtime.block_on(cli::run(std::env::args_os())),
        Err(_) => cli::exit::Exit::Failed,
    };
    exit.into()
}
