//! The admin listener: whether the process lives, whether it is ready, and its metrics. Loopback only; changes nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use persistence::archive::ALARM_AFTER;
use persistence::{Lead, ScrubStatus};

use crate::cluster;
use crate::rest::{App, not_found};

/// Bounds of the buckets of durations, in seconds: from a flush on a fast disk to a time-out.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The recorder of this process, installed by the first who asks.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        let recorder = builder.expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("Another recorder of metrics is installed; /metrics stays empty");
        }
        handle
    })
}

/// The routes of the admin listener.
pub fn router(app: Arc<App>) -> Router {
    let router = Router::new()
        .route("/livez", get(|| async { text(StatusCode::OK, "ok\n".to_owned()) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_now))
        .route("/admin/cluster", get(cluster_now))
        .fallback(not_found);
    router.with_state(app)
}

async fn metrics_now(State(app): State<Arc<App>>) -> Response<Body> {
    // Asked for here: while a store hangs, nobody else would tell how the lag grows.
    if let Some((lag, (objects, bytes, failures))) = app.node.archive_lag() {
        metrics::gauge!("rt_archive_lag_entries").set(lag.entries as f64);
        metrics::gauge!("rt_archive_lag_seconds").set(lag.since.as_secs_f64());
        metrics::counter!("rt_archive_objects_total").absolute(objects);
        metrics::counter!("rt_archive_bytes_total").absolute(bytes);
        metrics::counter!("rt_archive_failures_total").absolute(failures);
    }
    if let Some(scrub) = app.node.scrub() {
        let counts = scrub.counts();
        metrics::counter!("rt_scrub_bytes_total").absolute(counts.bytes);
        metrics::counter!("rt_scrub_passes_total").absolute(counts.passes);
        metrics::gauge!("rt_scrub_finished_timestamp_seconds").set(counts.finished_ms as f64 / 1_000.0);
        metrics::counter!("rt_scrub_corruptions_total").absolute(counts.corruptions);
        metrics::counter!("rt_scrub_misreads_total").absolute(counts.misreads);
        metrics::counter!("rt_scrub_failures_total").absolute(counts.failures);
        metrics::gauge!("rt_scrub_damaged_files").set(scrub.damaged().len() as f64);
    }
    if let Some((entries, since, failures)) = app.node.projection_lag() {
        metrics::gauge!("rt_projection_lag_entries").set(entries as f64);
        metrics::gauge!("rt_projection_lag_ms").set(since.as_millis() as f64);
        metrics::counter!("rt_projection_failures_total").absolute(failures);
    }
    text(StatusCode::OK, metrics().render())
}

async fn cluster_now(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let state = query.is_some_and(|query| query.split('&').any(|part| part == "state"));
    let node = app.node.clone();
    // Hashing a large state takes a while.
    let looked = tokio::task::spawn_blocking(move || cluster::look(&node, state)).await;
    match looked.ok().flatten().and_then(|status| serde_json::to_string(&status).ok()) {
        None => text(StatusCode::NOT_FOUND, "this node is alone: it was started without --peers\n".to_owned()),
        Some(json) => {
            let mut response = text(StatusCode::OK, json);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    }
}

async fn ready(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let stopping = app.stopping.load(Ordering::Relaxed) || app.node.draining();
    let mut checks = vec![
        ("serving", !stopping, "the node is about to stop"),
        ("view", app.node.read().await.is_ok(), "readers are behind what was answered"),
    ];
    if let Some(board) = app.node.board() {
        let (groups, _) = board.groups();
        let led = !groups.is_empty() && groups.iter().all(|group| group.lead != Lead::Nobody);
        checks.push(("leaders", led, "a shard has no leader that this node knows"));
    }
    let good = checks.iter().all(|(_, good, _)| *good);
    let mut body = String::new();
    if verbose {
        for (name, good, why) in checks {
            let line = if good { format!("[+] {name}\n") } else { format!("[-] {name}: {why}\n") };
            body.push_str(&line);
        }
        // Reads go on without room for writes, so this does not make the node unready.
        let room = if app.node.read_only() { "[!] log: no room, nothing is written" } else { "[+] log" };
        body.push_str(room);
        body.push('\n');
        if let Some((lag, _)) = app.node.archive_lag() {
            let mark = if lag.since < ALARM_AFTER { '+' } else { '!' };
            body.push_str(&format!(
                "[{mark}] archive: {} entries, {} s behind\n",
                lag.entries,
                lag.since.as_secs()
            ));
        }
        if let Some(scrub) = app.node.scrub() {
            body.push_str(&scrubbed(scrub));
        }
    }
    body.push_str(if good { "ready\n" } else { "not ready\n" });
    text(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

/// What the scrub says of log and snapshots. Damage that was put aside is told until the next start: the device it came
/// from is still there.
fn scrubbed(scrub: &ScrubStatus) -> String {
    let counts = scrub.counts();
    let finished = match jiff::Timestamp::from_millisecond(counts.finished_ms) {
        Ok(at) if counts.passes > 0 => format!("last pass finished {at:.0}"),
        _ => "no pass finished yet".to_owned(),
    };
    match scrub.last_trouble() {
        None => format!("[+] scrub: {finished}\n"),
        Some(text) => {
            let damaged = scrub.damaged().len();
            format!("[!] scrub: {finished}; {damaged} files damaged now; found since the start: {text}\n")
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
