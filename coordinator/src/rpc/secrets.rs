//! `Secrets`: values go in and never come out. Each call needs an operator's certificate.

use std::sync::Arc;

use fleet::spec::{SECRET_SIZE_MAX, Secret, SecretName};
use proto::wire::operator::{self as wire, secrets_server::Secrets};
use tonic::{Request, Response, Status};

use super::{commit_failed, operator_of, store_failed};
use crate::{coordinator::Coordinator, secrets::SetError};

pub(super) struct Keeper {
    coordinator: Arc<Coordinator>,
}

impl Keeper {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

fn name_of(text: &str) -> Result<SecretName, Status> {
    SecretName::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn done(detail: String) -> Response<wire::CommandReply> {
    Response::new(wire::CommandReply { ok: true, detail, guard: false })
}

fn refused(error: &SetError) -> Status {
    match error {
        SetError::Commit(error) => commit_failed(error),
        SetError::Store(error) => store_failed(error),
        SetError::TooMany => Status::resource_exhausted(error.to_string()),
        SetError::Seal => Status::internal(error.to_string()),
    }
}

#[tonic::async_trait]
impl Secrets for Keeper {
    async fn set(
        &self,
        request: Request<wire::SetSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let operator = operator_of(&self.coordinator, &request)?;
        let request = request.into_inner();
        let name = name_of(&request.name)?;
        if request.value.is_empty() || SECRET_SIZE_MAX < request.value.len() {
            return Err(Status::invalid_argument(format!(
                "the value of {name} must have 1 to {SECRET_SIZE_MAX} bytes"
            )));
        }
        let value = Secret::new(request.value);
        let set = self.coordinator.set_secret(&name, &value, &operator.name).await;
        set.map_err(|error| refused(&error))?;
        Ok(done(format!("{name} is set; the next plan shows the nodes that this changes")))
    }

    async fn list(
        &self,
        request: Request<wire::ListSecretsRequest>,
    ) -> Result<Response<wire::ListSecretsReply>, Status> {
        operator_of(&self.coordinator, &request)?;
        let records = self.coordinator.secret_records().await.map_err(|error| store_failed(&error))?;
        let secrets = records.into_iter().map(|record| wire::SecretInfo {
            name: record.name.to_string(),
            changed_ms: record.changed.0,
            changed_by: record.changed_by,
        });
        Ok(Response::new(wire::ListSecretsReply { secrets: secrets.collect() }))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let operator = operator_of(&self.coordinator, &request)?;
        let name = name_of(&request.get_ref().name)?;
        let removed = self.coordinator.remove_secret(&name, &operator.name).await;
        if removed.map_err(|error| refused(&error))? {
            return Ok(done(format!("{name} is removed; nodes keep the value until they get another")));
        }
        Err(Status::not_found(format!("there is no secret {name}; see `convoy secret list`")))
    }
}
