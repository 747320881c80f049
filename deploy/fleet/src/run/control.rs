//! What an operator sees and does: `GET /status`, `GET /metrics`, `POST /drain` and `POST /loans`, HTTP/1.1 at a socket in the file system that its owner alone
//! may open. Metrics are the figures of the status as Prometheus reads them.
//!
//! Status is asked of both sides when somebody asks for it, and of a side that does not answer at once it is said that it does not.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::loans::{Order, ordered};
use super::{RunError, Shared, Stage};
use crate::calderad::Calderad;

/// Asks a side how it is.
pub(super) type Question = oneshot::Sender<Value>;

/// The two sides, and how far the process is.
pub(super) struct Control<C> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) stage: Arc<watch::Sender<Stage>>,
    pub(super) submitter: mpsc::Sender<Question>,
    pub(super) lender: mpsc::Sender<Question>,
    pub(super) loans: mpsc::Sender<Order>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    drain: bool,
}

/// Listens, at a path where nobody else does.
pub(super) fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, RunError> {
    let system = |source| RunError::System {
        what: format!("control socket {}", path.display()),
        source,
    };
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let taken = io::Error::new(io::ErrorKind::AddrInUse, "another process answers there");
        return Err(system(taken));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(system)?;
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner).map_err(system)?;
    listener.set_nonblocking(true).map_err(system)?;
    Ok(listener)
}

/// Answers, one after another: an operator is one.
pub(super) async fn serve<C: Calderad>(listener: UnixListener, control: Control<C>) {
    let control = Arc::new(control);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(WITHIN).await;
            continue;
        };
        let control = Arc::clone(&control);
        let service = service_fn(move |request| {
            let control = Arc::clone(&control);
            async move { Ok::<_, Infallible>(answer(&control, request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(WITHIN)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        if timeout(5 * WITHIN, served).await.is_err() {
            tracing::warn!("somebody at the control socket is slow");
        }
    }
}

async fn answer<C: Calderad>(
    control: &Control<C>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {}
        (&Method::GET, "/metrics") => {
            let text = metrics(&status(control).await);
            return typed(StatusCode::OK, "text/plain; version=0.0.4", text);
        }
        (&Method::POST, "/loans") => {
            let heard = &ask(&control.submitter).await["boxes"];
            let done = ordered(&control.loans, body(request).await, heard).await;
            if let Err((status, error)) = done {
                return response(status, &json!({ "error": error }));
            }
        }
        (&Method::POST, "/drain") => {
            let Ok(Drain { drain }) = serde_json::from_slice(&body(request).await) else {
                let error = json!({"error": "expected {\"drain\": true} or {\"drain\": false}"});
                return response(StatusCode::BAD_REQUEST, &error);
            };
            control.stage.send_if_modified(|stage| {
                let next = if drain {
                    Stage::Draining
                } else {
                    Stage::Running
                };
                // Who is over stays that.
                let other = *stage != Stage::Over && *stage != next;
                if other {
                    *stage = next;
                }
                other
            });
        }
        _ => {
            let error =
                json!({"error": "expected GET /status, GET /metrics, POST /drain or POST /loans"});
            return response(StatusCode::NOT_FOUND, &error);
        }
    }
    response(StatusCode::OK, &status(control).await)
}

async fn body(request: Request<Incoming>) -> Bytes {
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .unwrap_or_default()
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    typed(status, "application/json", body.to_string())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The figures of a status. Of a side that does not answer there are none.
fn metrics(status: &Value) -> String {
    let mut text = String::new();
    for (name, kind, help, at) in METRICS {
        let value = match status.pointer(at) {
            Some(Value::Bool(is)) => u64::from(*is),
            Some(Value::Array(list)) => list.len() as u64,
            Some(Value::Number(number)) => number.as_u64().unwrap_or_default(),
            _ => continue,
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
    text
}

async fn status<C: Calderad>(control: &Control<C>) -> Value {
    let shared = &control.shared;
    let submitter = ask(&control.submitter).await;
    let lender = ask(&control.lender).await;
    let totals = &shared.totals;
    let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let error = shared.calderad_error();
    json!({
        "box": format!("{:032x}", shared.config.me.0),
        "boot": shared.boot.0,
        "draining": shared.is_draining(),
        "calderad": {"connected": error.is_none(), "error": error},
        "broker": submitter["broker"],
        "submitter": submitter["submitter"],
        "lender": lender,
        "boxes": submitter["boxes"],
        "totals": {
            "taken": total(&totals.taken),
            "placed": total(&totals.placed),
            "replaced": total(&totals.replaced),
            "committed": total(&totals.committed),
            "returned": total(&totals.returned),
            "lent": total(&totals.lent),
            "refused": total(&totals.refused),
            "wrongProofs": total(&totals.wrong_proofs),
            "forged": total(&totals.forged),
        },
    })
}

async fn ask(side: &mpsc::Sender<Question>) -> Value {
    let (question, answer) = oneshot::channel();
    let asked = async {
        side.send(question).await.ok()?;
        answer.await.ok()
    };
    timeout(WITHIN, asked)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}

const WITHIN: Duration = Duration::from_secs(1);
const BODY_MAX: usize = 1_024;
/// Name, kind, what it is, and where it stands in a status.
const METRICS: [(&str, &str, &str, &str); 20] = [
    (
        "calderad_fleet_boot",
        "gauge",
        "Which start of the process this is.",
        "/boot",
    ),
    (
        "calderad_fleet_draining",
        "gauge",
        "1 while nothing new is taken.",
        "/draining",
    ),
    (
        "calderad_fleet_calderad_connected",
        "gauge",
        "Whether the box answered when it was asked last.",
        "/calderad/connected",
    ),
    (
        "calderad_fleet_broker_connected",
        "gauge",
        "Whether there is a connection to servers that were found good.",
        "/broker/connected",
    ),
    (
        "calderad_fleet_boxes",
        "gauge",
        "Other boxes that were heard since the start.",
        "/boxes",
    ),
    (
        "calderad_fleet_waiting",
        "gauge",
        "Jobs of this box that no other has.",
        "/submitter/waiting",
    ),
    (
        "calderad_fleet_placed",
        "gauge",
        "Jobs of this box that another has.",
        "/submitter/placed",
    ),
    (
        "calderad_fleet_room",
        "gauge",
        "Jobs of others that are asked for.",
        "/lender/room",
    ),
    (
        "calderad_fleet_held",
        "gauge",
        "Jobs of others that are proved here.",
        "/lender/held",
    ),
    (
        "calderad_fleet_loans_granted",
        "gauge",
        "Loans of this box that are in force.",
        "/lender/loans",
    ),
    (
        "calderad_fleet_loans_had",
        "gauge",
        "Loans that this box was told it has.",
        "/submitter/loans",
    ),
    (
        "calderad_fleet_taken_total",
        "counter",
        "Jobs that the box handed out.",
        "/totals/taken",
    ),
    (
        "calderad_fleet_placed_total",
        "counter",
        "Placements that the broker has confirmed.",
        "/totals/placed",
    ),
    (
        "calderad_fleet_replaced_total",
        "counter",
        "Placements of jobs that were placed before.",
        "/totals/replaced",
    ),
    (
        "calderad_fleet_committed_total",
        "counter",
        "Jobs that ended with a proof from elsewhere.",
        "/totals/committed",
    ),
    (
        "calderad_fleet_returned_total",
        "counter",
        "Jobs that came home.",
        "/totals/returned",
    ),
    (
        "calderad_fleet_lent_total",
        "counter",
        "Jobs of others that were answered with a proof.",
        "/totals/lent",
    ),
    (
        "calderad_fleet_refused_total",
        "counter",
        "Jobs of others that were refused.",
        "/totals/refused",
    ),
    (
        "calderad_fleet_wrong_proofs_total",
        "counter",
        "What came as a proof and was none.",
        "/totals/wrongProofs",
    ),
    (
        "calderad_fleet_forged_total",
        "counter",
        "Answers of whom nobody had asked.",
        "/totals/forged",
    ),
];
