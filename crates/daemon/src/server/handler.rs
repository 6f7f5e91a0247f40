//! What every handler works with: the service, requests whose mistakes come back in our form, and questions to the guard and the
//! store off the threads that serve.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Service;
use super::failure::Failure;
use crate::guard::Guard;
use crate::store::{Reader, StoreError};

/// What handlers work with.
#[derive(Clone)]
pub(super) struct App {
    pub(super) service: Service,
    pub(super) stop: watch::Receiver<bool>,
}

/// What a handler gives.
pub(super) type ApiResult<T> = Result<Json<T>, Failure>;

/// A query whose mistakes come back in our form.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|error: QueryRejection| Failure::request(error.body_text()))
    }
}

/// A body whose mistakes come back in our form.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Failure::new(error.status(), error.body_text()))?;
        Json::<T>::from_bytes(&bytes)
            .map(|body| Self(body.0))
            .map_err(|error: JsonRejection| Failure::request(error.body_text()))
    }
}

/// Does something that may wait, off the threads that serve requests.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        let error = "the request failed inside the daemon; look at its log";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?
}

/// Asks the guard.
pub(super) async fn ask<T: Send + 'static, E>(
    app: &App,
    question: impl FnOnce(&mut Guard) -> Result<T, E> + Send + 'static,
) -> Result<T, Failure>
where
    E: Send + 'static,
    Failure: From<E>,
{
    let guard = app.service.guard.clone();
    blocking(move || guard.ask(question)?.map_err(Failure::from)).await
}

/// Asks the guard what it cannot fail to know.
pub(super) async fn know<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&mut Guard) -> T + Send + 'static,
) -> ApiResult<T> {
    let guard = app.service.guard.clone();
    blocking(move || Ok(guard.ask(question)?)).await.map(Json)
}

/// Reads the store.
pub(super) async fn read<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let store = app.service.store.clone();
    blocking(move || Ok(question(&store.reader()?)?)).await
}
