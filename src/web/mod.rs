//! What the daemon tells over HTTP: `/health`, `/live` and `/metrics`. It reads the board and nothing else.

mod health;
mod metrics;

use crate::daemon::Board;
use crate::error::{Error, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the pages are made of.
#[derive(Clone)]
struct Pages {
    board: Arc<Board>,
    clock: fn() -> DateTime<Utc>,
}

/// Takes the address.
///
/// # Errors
/// Where it is taken, or not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::failed(format!("cannot listen at {address}"))
            .caused_by(cause)
            .hint("--listen takes another address, or off")
    })
}

/// Answers until `stop`.
pub async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    clock: fn() -> DateTime<Utc>,
    stop: CancellationToken,
) {
    let pages = Pages { board, clock };
    let router = Router::new()
        .route("/health", get(health))
        .route("/live", get(live))
        .route("/metrics", get(metrics))
        .with_state(pages);
    // It fails where the listener does: whoever asks then sees that nobody answers.
    let _ = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
}

async fn health(State(pages): State<Pages>) -> Response {
    let report = health::report(&pages.board.read(), (pages.clock)());
    json(&report, report.is_ok())
}

/// Whether the daemon itself is at work, whatever it finds: for whoever would start it anew.
async fn live(State(pages): State<Pages>) -> Response {
    let report = health::alive(&pages.board.read(), (pages.clock)());
    json(&report, report.is_ok())
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let text = metrics::text(&pages.board.read(), (pages.clock)());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn json(report: &health::Report, is_ok: bool) -> Response {
    let status = match is_ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = serde_json::to_string(report).unwrap_or_default();
    let head = [(header::CONTENT_TYPE, "application/json")];
    (status, head, text).into_response()
}
