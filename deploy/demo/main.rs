//! `cargo run --example demo`: claviger at work, on whatever Vault there is. Needs no other program and leaves nothing.
//!
//! It plays both sides: it prepares a Vault, starts an agent, and asks it as its workloads would. The agent and the
//! workloads are processes of their own: this program again, with a first argument that makes it claviger.

mod agent;
mod api;
mod database;
mod events;
mod people;
mod prepare;
mod scenes;
mod screen;
mod upstream;
mod vault;

use anyhow::{Context as _, Result};
use prepare::Prepared;
use screen::Screen;
use std::{
    ffi::OsString,
    future::Future,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};
use vault::Server;

/// The first argument that makes this program claviger itself.
const AS_CLAVIGER: &str = "--as-claviger";
/// The one that makes it a program that calls an API: behind it stand a socket and a path.
const AS_CALLER: &str = "--as-caller";
/// All of it takes 7 s, or 20 s with a Vault elsewhere; on a busy machine it may take longer, and then it must end all the same.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let mut line = std::env::args_os().skip(1).peekable();
    if line.next_if(|first| first == AS_CLAVIGER).is_some() {
        return claviger::cli::main(std::iter::once(OsString::from("claviger")).chain(line)).into();
    }
    let screen = Screen::new();
    if line.next_if(|first| first == AS_CALLER).is_some() {
        let words: Vec<String> = line.filter_map(|word| word.into_string().ok()).collect();
        return match words.as_slice() {
            [socket, path] => match upstream::call(socket, path) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    screen.fail(&format!("{error:#}"));
                    ExitCode::FAILURE
                }
            },
            _ => ExitCode::from(2),
        };
    }
    if line.next().is_some() {
        screen.fail("this program takes no arguments; VAULT_ADDR and VAULT_TOKEN choose a Vault of yours");
        return ExitCode::from(2);
    }
    claviger::crypto::install();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.fail(&format!("starting: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(show(&screen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Finds a Vault, shows everything, and undoes everything, whatever happened in between.
async fn show(screen: &Screen) -> Result<()> {
    let began = Instant::now();
    let server = unless_stopped(vault::choose(screen)).await?;
    screen.head("vault", &server.said);
    let mut prepared = Prepared::new(&server)?;
    let shown = unless_stopped(act(screen, &server, &mut prepared)).await;
    let undone = prepared.undo().await;
    let home = server.home.path().to_owned();
    server.stop().await;
    shown?;
    undone?;
    anyhow::ensure!(!home.exists(), "{} is still there", home.display());
    screen.end(&format!(
        "Everything above was checked. The agent is stopped, its token revoked, {} removed. {:.1} s.",
        prepared.traces(),
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn act(screen: &Screen, server: &Server, prepared: &mut Prepared) -> Result<()> {
    prepared.make().await.context("preparing Vault")?;
    screen.head("prepared", prepared.said());
    let people = people::find(&server.home).await.context("choosing who is who")?;
    let api = upstream::start().await?;
    let mut agent = agent::start(server, prepared, &people, &api).await.context("starting the agent")?;
    screen.head("agent", &agent.said(&people));
    let shown = scenes::all(screen, &mut agent, prepared, &people).await;
    if shown.is_err() {
        screen.log(&agent.last_log_lines());
    }
    shown
}

/// Does the work unless it takes too long or somebody stops it; then the rest is cleaned up all the same.
async fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => anyhow::bail!("stopped by SIGINT"),
        _ = terminate.recv() => anyhow::bail!("stopped by SIGTERM"),
        _ = hangup.recv() => anyhow::bail!("stopped by SIGHUP"),
        () = tokio::time::sleep(LIMIT) => anyhow::bail!("not done in {} s", LIMIT.as_secs()),
    }
}
