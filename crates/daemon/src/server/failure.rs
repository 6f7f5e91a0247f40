//! Failures as answers: one sentence with the mend, and a status that says its kind.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::{self, Finding};
use crate::guard::{ApplyError, BanError, LookUpError, Silent};
use crate::store::StoreError;
use crate::watch::ReloadError;

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    findings: Vec<Finding>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self {
            status,
            error: error.to_string(),
            findings: Vec::new(),
        }
    }

    pub(super) fn request(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = api::Error {
            error: self.error,
            findings: self.findings,
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<Silent> for Failure {
    fn from(error: Silent) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl From<BanError> for Failure {
    fn from(error: BanError) -> Self {
        let status = match error {
            BanError::NoPrefix { .. } | BanError::LongReason { .. } | BanError::Which => {
                StatusCode::BAD_REQUEST
            }
            BanError::NotBanned { .. } | BanError::InFeed { .. } | BanError::NotAllowed { .. } => {
                StatusCode::NOT_FOUND
            }
            BanError::Refused(_) | BanError::Protected { .. } | BanError::Covered { .. } => {
                StatusCode::CONFLICT
            }
            BanError::Kernel(_) | BanError::NotAsked { .. } | BanError::NotLifted { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error)
    }
}

impl From<LookUpError> for Failure {
    fn from(error: LookUpError) -> Self {
        let status = match error {
            LookUpError::NoSet { .. } => StatusCode::NOT_FOUND,
            LookUpError::NoPacket { .. } | LookUpError::NoName(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error)
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let status = match error {
            _ if error.is_permission() => StatusCode::FORBIDDEN,
            ApplyError::CutsSession { .. }
            | ApplyError::RolledBack { .. }
            | ApplyError::WouldEnforce { .. }
            | ApplyError::InForceAlready { .. }
            | ApplyError::Pending
            | ApplyError::NothingPending
            | ApplyError::NoPrevious
            | ApplyError::NoDatapath(_)
            | ApplyError::Taken(_) => StatusCode::CONFLICT,
            ApplyError::Kernel(_) | ApplyError::Hold(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl From<crate::candidate::Invalid> for Failure {
    fn from(error: crate::candidate::Invalid) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            error: error.to_string(),
            findings: error.findings,
        }
    }
}

impl From<ReloadError> for Failure {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Invalid(invalid) => invalid.into(),
            ReloadError::Apply(error) => error.into(),
            ReloadError::Silent(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}
