//! A stand-in for a database: it says yes to whatever Vault's InfluxDB plugin asks, so that a real Vault gives real
//! leases on a machine without any database. It has no users, no data and no way in.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::SocketAddr};
use tokio::{net::TcpListener, task::JoinSet};

/// Who Vault says it is when it makes users.
pub(crate) const ADMIN: &str = "demo";

/// The listening stand-in; it ends when dropped.
pub(crate) struct Database {
    /// Where it listens: loopback.
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Listens on a free port of the loopback interface.
pub(crate) async fn start() -> Result<Database> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for the stand-in database")?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(Database { address, _tasks: tasks })
}

/// To a ping: here. To a query, whichever it is: there is one user, an administrator.
fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let users = format!(
        r#"{{"results":[{{"statement_id":0,"series":[{{"columns":["user","admin"],"values":[["{ADMIN}",true]]}}]}}]}}"#
    );
    let (status, body) = if request.uri().path() == "/ping" { (204, String::new()) } else { (200, users) };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert("X-Influxdb-Version", header::HeaderValue::from_static("1.8.10"));
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
