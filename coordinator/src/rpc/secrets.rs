//! `Secrets`: values go in and never come out. Each call needs an operator's certificate.

use std::sync::Arc;

use fleet::{
    access::{Action, Permit, Target},
    ids::GroupName,
    spec::{SECRET_SIZE_MAX, Secret, SecretName},
};
use proto::wire::operator::{self as wire, secrets_server::Secrets};
use tonic::{Request, Response, Status};

use super::{
    caller::{Caller, caller, peer_of},
    commit_failed, store_failed,
};
use crate::{coordinator::Coordinator, secrets::SetError};

pub(super) struct Keeper {
    coordinator: Arc<Coordinator>,
}

impl Keeper {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    async fn permit(&self, caller: &Caller, name: &SecretName) -> Result<Permit, Status> {
        let reached = self.coordinator.targets_of_secret(name).await.map_err(|error| store_failed(&error))?;
        caller.permit(Action::ChangeSecret, &reached).await
    }
}

fn unknown(name: &SecretName) -> Status {
    Status::not_found(format!("there is no secret {name}; see `convoy secret list`"))
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
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let name = name_of(&request.name)?;
        if request.value.is_empty() || SECRET_SIZE_MAX < request.value.len() {
            return Err(Status::invalid_argument(format!(
                "the value of {name} must have 1 to {SECRET_SIZE_MAX} bytes"
            )));
        }
        let permit = self.permit(&caller, &name).await?;
        let value = Secret::new(request.value);
        let set = self.coordinator.set_secret(&name, &value, &permit).await;
        set.map_err(|error| refused(&error))?;
        Ok(done(format!("{name} is set; the next plan shows the nodes that this changes")))
    }

    async fn list(
        &self,
        request: Request<wire::ListSecretsRequest>,
    ) -> Result<Response<wire::ListSecretsReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let records = self.coordinator.secret_records().await.map_err(|error| store_failed(&error))?;
        let secrets = records.into_iter().map(|record| wire::SecretInfo {
            name: record.name.to_string(),
            changed_ms: record.changed.0,
            changed_by: record.changed_by,
            groups: record.groups.iter().map(ToString::to_string).collect(),
        });
        Ok(Response::new(wire::ListSecretsReply { secrets: secrets.collect() }))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let name = name_of(&request.get_ref().name)?;
        let permit = self.permit(&caller, &name).await?;
        let removed = self.coordinator.remove_secret(&name, &permit).await;
        if removed.map_err(|error| refused(&error))? {
            return Ok(done(format!("{name} is removed; nodes keep the value until they get another")));
        }
        Err(unknown(&name))
    }

    async fn grant(
        &self,
        request: Request<wire::GrantSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let permit = caller.permit(Action::GrantSecret, &[Target::Fleet].into()).await?;
        let request = request.into_inner();
        let name = name_of(&request.name)?;
        let group = |name: &String| {
            GroupName::parse(name).map_err(|error| Status::invalid_argument(error.to_string()))
        };
        let groups = request.groups.iter().map(group).collect::<Result<_, _>>()?;
        let granted = self.coordinator.grant_secret(&name, groups, &permit).await;
        if !granted.map_err(|error| refused(&error))? {
            return Err(unknown(&name));
        }
        let detail = match request.groups.is_empty() {
            true => format!("{name} is granted to no group; nodes that have it keep it"),
            false => format!("{name} is granted to {}", request.groups.join(", ")),
        };
        Ok(done(detail))
    }
}
