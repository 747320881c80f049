//! jsonrpsee: a JSON-RPC server on hyper and tokio, with one method that looks a job up in a table in memory.
//!
//! Tokens are checked by the same code as ours, in a layer around its HTTP service, so what differs is the
//! server and not the cryptography. Method, parameters and results are of the same types. It serves HTTP
//! alone, which spares it the look for an upgrade to WebSocket, and logs nothing.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context as Look, Poll};

use anyhow::{Context, Result};
use caldera_node::clock::unix_time;
use caldera_rpc::auth::{Keyring, Secret};
use caldera_rpc::methods::{JobName, JobStatus, JobWait, Method};
use jsonrpsee::core::BoxError;
use jsonrpsee::server::{HttpRequest, HttpResponse, Server, ServerConfig, http};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Extensions, RpcModule};
use tokio::runtime::Builder;
use tower::layer::layer_fn;
use tower::{Service, ServiceBuilder};

use crate::record::version;

/// The name of the command that serves.
pub(crate) const SERVE: &str = "jsonrpsee";

/// What stands in a record beside a figure of this crate.
pub(crate) fn build(threads: usize) -> String {
    let runtime = match threads {
        0 => "current_thread".to_owned(),
        threads => format!("multi_thread, {threads} workers"),
    };
    format!(
        "jsonrpsee {} (hyper {}, tokio {}: {runtime}), HTTP only",
        version("jsonrpsee"),
        version("hyper"),
        version("tokio"),
    )
}

/// Serves a table of jobs to one tenant until it is killed; on no thread but this one for none.
pub(crate) fn serve(table: &Path, tenant: &str, secret: &Path, threads: usize) -> Result<()> {
    // Nobody else ends it if whoever measures is killed.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let jobs: Vec<JobStatus> =
        serde_json::from_slice(&std::fs::read(table)?).context("a table of jobs")?;
    let jobs: HashMap<JobName, JobStatus> = jobs.into_iter().map(|it| (it.job, it)).collect();
    let mut ring = Keyring::new(Secret::from_bytes([0; 32]));
    ring.insert(tenant, Secret::parse(&std::fs::read_to_string(secret)?)?);
    let runtime = match threads {
        0 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    };
    runtime
        .context("a runtime")?
        .block_on(answer(jobs, Arc::new(ring)))
}

async fn answer(jobs: HashMap<JobName, JobStatus>, ring: Arc<Keyring>) -> Result<()> {
    // As a table that changes has to be.
    let mut module = RpcModule::new(RwLock::new(jobs));
    module.register_method(Method::Status.name(), |params, jobs, _: &Extensions| {
        let query: JobWait = params.parse()?;
        let jobs = jobs
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let unknown = || ErrorObjectOwned::borrowed(-32_000, "no such job", None);
        jobs.get(&query.job).cloned().ok_or_else(unknown)
    })?;
    let guard = layer_fn(move |inner| Guard {
        inner,
        ring: Arc::clone(&ring),
    });
    let config = ServerConfig::builder().http_only().max_connections(1024);
    let server = Server::builder()
        .set_config(config.build())
        .set_http_middleware(ServiceBuilder::new().layer(guard))
        .build("127.0.0.1:0")
        .await
        .context("listening")?;
    println!("jsonrpsee listening on {}", server.local_addr()?);
    std::io::stdout().flush()?;
    server.start(module).stopped().await;
    Ok(())
}

/// Lets only those in whom the ring knows.
#[derive(Clone)]
struct Guard<S> {
    inner: S,
    ring: Arc<Keyring>,
}

type Answered = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

impl<S> Service<HttpRequest> for Guard<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = BoxError, Future = Answered>,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answered;

    fn poll_ready(&mut self, look: &mut Look<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(look)
    }

    fn call(&mut self, request: HttpRequest) -> Answered {
        let token = request.headers().get("authorization");
        let token = token.and_then(|it| it.to_str().ok());
        match self.ring.verify(token, unix_time().as_secs()) {
            Ok(_) => self.inner.call(request),
            Err(_) => Box::pin(async { Ok(http::response::denied()) }),
        }
    }
}
