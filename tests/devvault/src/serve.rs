//! HTTP/1.1 around the double: a loopback listener, or any stream that a test brings (TLS is the test's business).

use std::io;
use std::net::SocketAddr;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::body::Reply;
use crate::outcome::{error_body, json_response};
use crate::vault::DevVault;

/// Vault's own limit on a request's body.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// A listening double. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its base URL, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes the listener and every connection, and returns when both are closed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl DevVault {
    /// Listens on an address; port 0 takes a free one. A stopped address can be served again.
    pub async fn serve(&self, addr: &str) -> io::Result<Server> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(self.clone(), listener));
        Ok(Server { addr, tasks })
    }

    /// Serves one connection until it ends. An error is the peer's or a script's doing.
    pub async fn serve_stream<S>(&self, stream: S) -> Result<(), hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(|request| self.serve_request(request));
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    }

    async fn serve_request(&self, request: Request<Incoming>) -> Result<Response<Reply>, io::Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            let body = error_body(&["http: request body too large".to_string()]);
            return Ok(json_response(413, Some(&body)).map(|b| Reply::Whole(Some(b))));
        };
        let request = Request::from_parts(head, body.to_bytes());
        self.reply(request).await.map_err(|lost| io::Error::new(io::ErrorKind::ConnectionAborted, lost))
    }
}

async fn accept(vault: DevVault, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Small answers must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                let vault = vault.clone();
                connections.spawn(async move {
                    let _ = vault.serve_stream(stream).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
