//! The one binary: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    facewire::main()
}
