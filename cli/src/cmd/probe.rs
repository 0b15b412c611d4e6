//! `dmm probe`, hidden: what the doctor tries in a process of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

use rustix::thread::UnshareFlags;

use crate::machine::namespace;
use crate::output::Out;
use crate::program::library;
use crate::{Doing, Error};

/// Try one thing, and print how it went.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to try.
    what: What,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// Is the preload in this process, and does a socket work?
    Preload,
    /// May this user make a user namespace with a network of its own?
    UserNamespace,
}

/// Tries it.
pub fn run(args: &Args, out: &mut Out) -> Result<ExitCode, Error> {
    match args.what {
        What::Preload => preload(out)?,
        What::UserNamespace => {
            let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
            namespace::enter_new(flags).doing(|| "make a user namespace".to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn preload(out: &mut Out) -> Result<(), Error> {
    let maps =
        std::fs::read_to_string("/proc/self/maps").doing(|| "read /proc/self/maps".to_owned())?;
    if !maps.contains(library::NAME) {
        return Err(Error::not_so("the loader did not take the library"));
    }
    echo_one_byte().doing(|| "send a byte over loopback under the preload".to_owned())?;
    writeln!(out, "a program loads it and its TCP works")?;
    Ok(())
}

fn echo_one_byte() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.write_all(b"x")?;
    let mut byte = [0];
    far.read_exact(&mut byte)?;
    if byte == *b"x" {
        Ok(())
    } else {
        Err(std::io::Error::other("another byte arrived"))
    }
}
