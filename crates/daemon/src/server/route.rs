//! Paths and what answers them.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;

use super::failure::Failure;
use super::handler::{ApiResult, App, Body, Query, ask, blocking, know, read};
use super::peer::{Allowed, Peer};
use super::{Service, event, why};
use crate::api;
use crate::candidate::{Candidate, Source};
use crate::clock;
use crate::guard::{self, Asked, By, Guard};

/// Every path of the API.
pub(super) fn router(service: Service, stop: watch::Receiver<bool>, allowed: Allowed) -> Router {
    let app = App { service, stop };
    let api = Router::new()
        .route("/status", get(status))
        .route("/rules", get(rules))
        .route("/sets", get(sets))
        .route("/sets/{name}", get(set))
        .route("/flows", get(flows))
        .route("/events", get(event::events))
        .route("/stats", get(stats))
        .route("/why/{*subject}", get(why::why))
        .route("/bans", get(bans).post(ban).delete(unban))
        .route("/bans/import", post(import))
        .route("/allow", get(allowed_list).post(allow).delete(disallow))
        .route("/policy", get(policy))
        .route("/policy/history", get(history))
        .route("/policy/apply", post(apply))
        .route("/policy/confirm", post(confirm))
        .route("/policy/rollback", post(rollback))
        .route("/policy/reload", post(reload))
        .route("/flush", post(flush))
        .route("/test", post(test))
        .route("/dns/test", post(dns_test))
        .with_state(app);
    Router::new()
        .nest(api::PREFIX, api)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(
            move |ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next| {
                admit(allowed, peer, request, next)
            },
        ))
}

async fn admit(allowed: Allowed, peer: Peer, request: Request, next: Next) -> Response {
    // Asks the user database, which may be slow.
    let admitted = tokio::task::spawn_blocking(move || allowed.admits(peer)).await;
    if matches!(admitted, Ok(true)) {
        return next.run(request).await;
    }
    let error =
        "this user may not control the firewall; use sudo, or join the group that owns the socket";
    Failure::new(StatusCode::FORBIDDEN, error).into_response()
}

async fn no_such_path() -> Failure {
    let error = format!("there is no such path; they begin with {}", api::PREFIX);
    Failure::new(StatusCode::NOT_FOUND, error)
}

async fn no_such_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method",
    )
}

async fn status(State(app): State<App>) -> ApiResult<api::Status> {
    know(&app, Guard::status).await
}

async fn rules(State(app): State<App>) -> ApiResult<Vec<api::Rule>> {
    know(&app, Guard::rules).await
}

async fn sets(State(app): State<App>) -> ApiResult<Vec<api::Set>> {
    know(&app, |guard| guard.sets()).await
}

async fn set(State(app): State<App>, Path(name): Path<String>) -> ApiResult<api::SetAddresses> {
    ask(&app, move |guard| guard.set(&name)).await.map(Json)
}

async fn flows(
    State(app): State<App>,
    Query(query): Query<api::FlowQuery>,
) -> ApiResult<Vec<api::Flow>> {
    // A table of a million connections takes a while: the guard does not wait for it.
    let tracked = blocking(|| Ok(crate::pump::tracked().unwrap_or_default())).await?;
    ask(&app, move |guard| guard.flows(&query, &tracked))
        .await
        .map(Json)
}

async fn stats(
    State(app): State<App>,
    Query(query): Query<api::StatsQuery>,
) -> ApiResult<api::Stats> {
    /// Thirty days.
    const MOST: u32 = 43_200;
    let minutes = query.minutes.unwrap_or(60).min(MOST);
    let totals = know(&app, |guard| {
        // The minute that is not over yet counts too.
        guard.count_now();
        (
            guard.totals(),
            guard.mode_now().to_owned(),
            guard.own_side(),
        )
    });
    let Json((totals, mode, own_side)) = totals.await?;
    let since = clock::now()
        .as_secs()
        .saturating_sub(u64::from(minutes) * 60);
    let since = policy::Timestamp::from_secs(since);
    let store = app.service.store.clone();
    blocking(move || {
        store.flush(Duration::from_millis(500));
        let reader = store.reader()?;
        let (denied, would_deny) =
            reader.top_denied(since, |address| !own_side.contains(address))?;
        Ok(Json(api::Stats {
            totals,
            minutes: reader.minutes(since)?,
            denied,
            would_deny,
            mode,
        }))
    })
    .await
}

async fn bans(State(app): State<App>) -> ApiResult<Vec<api::Ban>> {
    know(&app, |guard| guard.bans()).await
}

async fn ban(State(app): State<App>, Body(request): Body<api::BanRequest>) -> ApiResult<api::Ban> {
    let ban = ask(&app, move |guard| guard.ban(&request)).await?;
    let not_kept = bans_not_kept(&app, 1).await?;
    Ok(Json(api::Ban { not_kept, ..ban }))
}

/// Waits until the store has what was asked of so many bans before; says why it has not, if so.
async fn bans_not_kept(app: &App, bans: usize) -> Result<Option<String>, Failure> {
    /// The store writes within milliseconds, or is in trouble.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// More for each ban: a slow disk takes some 10,000 a second.
    const EACH: Duration = Duration::from_micros(100);
    let patience = PATIENCE + EACH.saturating_mul(u32::try_from(bans).unwrap_or(u32::MAX));
    let store = app.service.store.clone();
    blocking(move || {
        let why = if store.flush(patience) {
            store.bans_missing()
        } else {
            Some("the store does not answer".to_owned())
        };
        Ok(why.as_deref().map(guard::not_kept))
    })
    .await
}

async fn unban(
    State(app): State<App>,
    Query(query): Query<api::UnbanQuery>,
) -> ApiResult<api::Unbanned> {
    let unbanned = ask(&app, move |guard| guard.unban(&query)).await?;
    let not_kept = bans_not_kept(&app, unbanned.lifted.len()).await?;
    Ok(Json(api::Unbanned {
        not_kept,
        ..unbanned
    }))
}

async fn import(
    State(app): State<App>,
    Body(import): Body<api::BanImport>,
) -> ApiResult<api::Imported> {
    let Json(imported) = know(&app, move |guard| guard.import_bans(&import)).await?;
    let not_kept = bans_not_kept(&app, imported.added).await?;
    Ok(Json(api::Imported {
        not_kept,
        ..imported
    }))
}

async fn allowed_list(State(app): State<App>) -> ApiResult<Vec<api::Allowed>> {
    know(&app, |guard| guard.allowed()).await
}

async fn allow(
    State(app): State<App>,
    Body(request): Body<api::AllowRequest>,
) -> ApiResult<api::Allowed> {
    let allowed = ask(&app, move |guard| guard.allow(&request)).await?;
    // The list itself is written down already; the bans that it lifts are the store's.
    let not_kept = if allowed.not_kept.is_none() && !allowed.lifted.is_empty() {
        bans_not_kept(&app, allowed.lifted.len()).await?
    } else {
        allowed.not_kept.clone()
    };
    Ok(Json(api::Allowed {
        not_kept,
        ..allowed
    }))
}

async fn disallow(
    State(app): State<App>,
    Query(query): Query<api::AllowQuery>,
) -> ApiResult<api::Disallowed> {
    ask(&app, move |guard| guard.disallow(&query))
        .await
        .map(Json)
}

async fn policy(State(app): State<App>) -> ApiResult<api::PolicyText> {
    know(&app, |guard| guard.policy_text()).await
}

async fn history(State(app): State<App>) -> ApiResult<Vec<api::PolicyVersion>> {
    read(&app, |reader| reader.policies(100)).await.map(Json)
}

async fn apply(
    State(app): State<App>,
    Body(request): Body<api::ApplyRequest>,
) -> ApiResult<api::Applied> {
    let guard = app.service.guard.clone();
    let lists = app.service.watch.lists();
    blocking(move || {
        let confirm = request.confirm_s.map(confirm_within).transpose()?;
        let source = match (request.text, request.path) {
            (Some(_), Some(_)) => {
                return Err(Failure::request("give either a path or a text, not both"));
            }
            (Some(text), None) => Source::Text {
                format: request.format,
                text,
            },
            (None, Some(path)) => Source::File(absolute(path)?),
            (None, None) => guard.ask(|guard| guard.source())?,
        };
        let candidate = Candidate::load_with(&source, clock::now(), &lists)?;
        let asked = Asked {
            by: By::Apply,
            confirm,
            force: request.force,
        };
        Ok(Json(
            guard.ask(move |guard| guard.apply(candidate, asked))??,
        ))
    })
    .await
}

/// How long a policy may wait for its confirmation.
fn confirm_within(seconds: u64) -> Result<Duration, Failure> {
    if (1..=api::ApplyRequest::MOST_CONFIRM_S).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        let asked = format_args!("{seconds} s");
        Err(Failure::request(api::ApplyRequest::wrong_confirm(asked)))
    }
}

/// The daemon's working directory is not the caller's.
fn absolute(path: String) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Failure::request(
            "the path has to be absolute: the daemon runs elsewhere",
        ))
    }
}

async fn confirm(State(app): State<App>) -> ApiResult<api::Applied> {
    ask(&app, Guard::confirm).await.map(Json)
}

/// Which waiting policy alone is to be rolled back.
#[derive(Deserialize)]
struct RollbackQuery {
    only: Option<String>,
}

async fn rollback(
    State(app): State<App>,
    Query(query): Query<RollbackQuery>,
) -> ApiResult<api::Applied> {
    ask(&app, move |guard| guard.roll_back(query.only.as_deref()))
        .await
        .map(Json)
}

async fn reload(State(app): State<App>) -> ApiResult<api::Applied> {
    let watch = app.service.watch.clone();
    blocking(move || Ok(Json(watch.reload()?))).await
}

async fn flush(State(app): State<App>) -> ApiResult<api::Flushed> {
    ask(&app, Guard::flush).await.map(Json)
}

async fn dns_test(
    State(app): State<App>,
    Body(request): Body<api::DnsTestRequest>,
) -> ApiResult<Vec<api::DnsTestResult>> {
    ask(&app, move |guard| guard.dns_test(&request))
        .await
        .map(Json)
}

async fn test(
    State(app): State<App>,
    Body(request): Body<api::TestRequest>,
) -> ApiResult<Vec<api::TestResult>> {
    ask(&app, move |guard| guard.test(&request)).await.map(Json)
}
