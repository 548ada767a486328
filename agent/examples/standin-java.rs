//! A stand-in for java.exe, for the whole path under Wine: takes the command line of a WSO2 server, listens on its
//! HTTPS port, says what the server says, and stops gracefully on Ctrl-C. It leaves a line for each in
//! `repository/logs/standin.log` of its home. The full stand-in of the tests does not build for Windows.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::net::TcpListener;

/// What a JVM ends with after Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;
const HTTPS_PORT: u16 = 9443;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "-version") {
        eprintln!("openjdk version \"17.0.9\" 2023-10-17\nOpenJDK Stand-in (build 17.0.9)");
        return ExitCode::SUCCESS;
    }
    match serve().await {
        Ok(()) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            eprintln!("ERROR - the stand-in ends: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> io::Result<()> {
    let home =
        std::env::args().find_map(|argument| Some(argument.strip_prefix("-Dcarbon.home=")?.to_owned()));
    let home = PathBuf::from(home.ok_or_else(|| io::Error::other("no -Dcarbon.home="))?);
    let listener = TcpListener::bind(("0.0.0.0", HTTPS_PORT + offset(&home)?)).await?;
    note(&home, "started")?;
    println!("INFO - WSO2 Carbon started in 1 sec");
    loop {
        tokio::select! {
            asked = tokio::signal::ctrl_c() => {
                asked?;
                println!("INFO - Halting JVM");
                return note(&home, "stopped gracefully");
            }
            // Cancel-safe: a connection that was not returned stays in the queue.
            _ = listener.accept() => {}
        }
    }
}

fn offset(home: &Path) -> io::Result<u16> {
    let text = fs::read_to_string(home.join("repository/conf/deployment.toml"))?;
    let config: toml::Table = toml::from_str(&text).map_err(io::Error::other)?;
    let offset =
        config.get("server").and_then(|server| server.get("offset")).and_then(toml::Value::as_integer);
    u16::try_from(offset.unwrap_or(0)).map_err(io::Error::other)
}

fn note(home: &Path, what: &str) -> io::Result<()> {
    let mut log =
        OpenOptions::new().append(true).create(true).open(home.join("repository/logs/standin.log"))?;
    writeln!(log, "{} {what}", std::process::id())
}
