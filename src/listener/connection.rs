//! One connection, from the kernel's word on the peer to the last answer.
//!
//! Does not decide: it asks `access` whether the peer may be here, and `api` for each answer.

use super::{
    Shared,
    room::Place,
    wire::{Breach, Owed, Tracked, Wire},
};
use crate::{
    api::{
        self,
        unread::{self, Unread, Why},
    },
    peer::{Peer, Rejected},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

/// How long a request's head may take to come in, and so how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long, and how many bytes, a refused peer may go on sending, so that it gets to read why.
const PARTING: (Duration, u64) = (Duration::from_secs(1), 64 * 1024);
/// How long a refused peer may take to ask. HTTP clients (hyper, Go's) take an answer that comes before their request for
/// a broken connection, and never show it.
const REQUEST: Duration = Duration::from_millis(500);

/// Who is at the other end, or why it may not be there.
pub(super) type Known = Result<Peer, Rejected>;

/// Serves one connection until it ends, or until the request that runs when `stop` comes is answered. It has `place` for so long.
///
/// What a connection does not need while it waits for its next request is in boxes: there may be thousands.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: UnixStream,
    known: Known,
    place: Place,
    stop: CancellationToken,
) {
    let known = match known {
        Ok(peer) => Box::pin(shared.access.admit(peer)).await,
        Err(rejected) => Err(rejected),
    };
    match known {
        Ok(peer) => {
            let peer = Arc::new(peer);
            match answer(&shared, &peer, stream, stop).await {
                None => {}
                Some(Breach::Peer(cause)) => Box::pin(shared.access.breached(&peer, &cause)).await,
                Some(Breach::Exited) => Box::pin(shared.access.exited(&peer)).await,
            }
        }
        Err(rejected) => {
            // Closed before anything is written: whoever is there now is not the peer.
            let stream = rejected.cause.is_told().then_some(stream);
            let response = api::turned_away(&Box::pin(shared.access.turn_away(rejected)).await);
            if let Some(stream) = stream {
                // A peer that is refused and does not even listen is nobody's problem.
                let _ = tokio::time::timeout(PARTING.0, Box::pin(part(stream, response))).await;
            }
        }
    }
    drop(place);
}

/// Answers requests; the connection is closed when this ends. Gives why we closed it, if its peer was the cause.
async fn answer(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    stream: UnixStream,
    stop: CancellationToken,
) -> Option<Breach> {
    let (owed, breach) = (Arc::new(Owed::default()), Arc::new(OnceLock::new()));
    let wire = Wire::new(stream, Arc::clone(&owed), Arc::clone(peer), Arc::clone(&breach));
    let service = service_fn(move |request| {
        let (shared, peer, owed) = (Arc::clone(shared), Arc::clone(peer), Arc::clone(&owed));
        async move { respond(&shared, &peer, &owed, request).await }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(shared.head)
        .auto_date_header(false)
        .half_close(false)
        .serve_connection(TokioIo::new(wire), service);
    let (mut failed, mut seen) = (None, None);
    {
        let mut connection = Pin::new(&mut connection);
        let serving = async {
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        tokio::select! {
            biased;
            // First: a process that ends closes its connections before it is seen to end. If this one is open all the same,
            // it is in other hands.
            ended = serving => failed = ended.err(),
            () = peer.watch().exited() => seen = Some(Breach::Exited),
        }
    }
    // The service, and what it holds, is gone here.
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    Box::pin(last_word(shared, peer, io.into_inner(), failed.as_ref(), &read_buf)).await;
    // And here the wire.
    Arc::into_inner(breach).and_then(OnceLock::into_inner).or(seen)
}

async fn respond(
    shared: &Shared,
    peer: &Arc<Peer>,
    owed: &Arc<Owed>,
    request: Request<Incoming>,
) -> Result<Response<Tracked>, api::Silence> {
    owed.floor.take();
    let limits = **shared.limits.load();
    if let Err(wait) = shared.access.take_turn(peer, limits.requests_per_second) {
        return Ok(api::over_rate(&shared.access, peer, wait).map(|body| Tracked::free(body, owed)));
    }
    if let Some(unread) = Unread::too_large(&request, shared.head) {
        let answered = Box::pin(unread::serve(&shared.access, peer, &shared.root, unread)).await?;
        return Ok(answered.map(|body| Tracked::free(body, owed)));
    }
    let serving = api::serve(&shared.access, peer, (&shared.root, limits.body), request);
    let api::Reply { response, owed: answer } = Box::pin(serving).await?;
    Ok(match answer {
        Some(answer) => response.map(|body| Tracked::owing(body, answer, owed)),
        None => response.map(|body| Tracked::free(body, owed)),
    })
}

/// Where the HTTP library could not read what came, tells the client so in our own words, and has that on record.
async fn last_word(
    shared: &Shared,
    peer: &Arc<Peer>,
    mut wire: Wire,
    failed: Option<&hyper::Error>,
    sent: &[u8],
) {
    let Some(error) = failed else { return };
    tracing::debug!(%error, "a connection ended early");
    if !wire.take_unread() {
        return;
    }
    let why = match error.is_parse_too_large() {
        false => Why::Malformed,
        true if sent.contains(&b'\n') => Why::Head,
        true => Why::Target,
    };
    let unread = Unread::of(why, sent, shared.head);
    if let Ok(response) = unread::serve(&shared.access, peer, &shared.root, unread).await {
        // Whoever does not listen is nobody's problem.
        let _ = tokio::time::timeout(PARTING.0, last(wire, response)).await;
    }
}

/// Tells a peer why it may not be here, without reading what it wants.
async fn part(mut stream: UnixStream, response: Response<api::Content>) -> std::io::Result<()> {
    // Its first byte is enough; whoever says nothing is told all the same.
    let _ = tokio::time::timeout(REQUEST, stream.read(&mut [0; 1])).await;
    last(stream, response).await
}

/// Says the last word of a connection. What the client sends meanwhile is thrown away: a socket that is closed with unread bytes makes
/// it see a reset instead of the answer.
async fn last<S>(mut stream: S, response: Response<api::Content>) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (head, body) = response.into_parts();
    // Ours is whole.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status, body.len()).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    stream.write_all(&text).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(PARTING.1), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, B, C, D, E, F>(_future_of: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_for_its_next_request_holds_a_few_kilobytes() {
        let bytes = bytes_of(serve);
        assert!(bytes <= 4096, "a thousand of them would hold {} KiB", bytes * 1000 / 1024);
    }
}
