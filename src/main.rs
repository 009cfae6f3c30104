//! The binary: command line in, exit code out. What the commands do is in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    claviger::cli::main(std::env::args_os()).into()
}
