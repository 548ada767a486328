//! `Operators`: who may do what.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fleet::{
    access::{Action, FIRST_OPERATOR, Grant, Target, Targets},
    ids::{GroupName, OperatorName},
    spec::suggest,
    time::Human,
};
use proto::wire::operator::{self as wire, operators_server::Operators};
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    commit_failed, store_failed,
};
use crate::{
    coordinator::Coordinator,
    enrolment::{TOKEN_VALID, TOKEN_VALID_MAX},
    operators::{Invitation, OperatorError},
};

pub(super) struct Registry {
    coordinator: Arc<Coordinator>,
}

impl Registry {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    /// What giving somebody rights reaches: those that they have and those that they get.
    async fn reached(&self, name: &OperatorName, grant: Option<&Grant>) -> Result<Targets, Status> {
        let had = self.coordinator.targets_of_operator(name).await;
        let mut reached = had.map_err(|error| store_failed(&error))?;
        reached.extend(grant.into_iter().flat_map(|grant| grant.scope.as_targets()));
        if reached.is_empty() {
            // Of somebody who is not known: an admin of some groups is not told who is.
            reached.insert(Target::Fleet);
        }
        Ok(reached)
    }

    /// Groups that the newest revision does not have: most likely mistyped.
    async fn unknown_groups(&self, grant: &Grant) -> Result<Vec<String>, Status> {
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let Some(newest) = &snapshot.revision else { return Ok(Vec::new()) };
        let known: BTreeSet<&GroupName> = newest.nodes.values().map(|target| &target.group).collect();
        let unknown = grant.scope.groups().filter(|group| !known.contains(group));
        let warning = |group: &GroupName| {
            let guess = suggest(group.as_str(), known.iter().map(|known| known.as_str()));
            format!("revision {} has no group {group}; {guess}", newest.number)
        };
        Ok(unknown.map(warning).collect())
    }
}

fn name_of(text: &str) -> Result<OperatorName, Status> {
    OperatorName::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn grant_of(grant: Option<&wire::Grant>) -> Result<Grant, Status> {
    let grant = grant.ok_or_else(|| Status::invalid_argument("say the role"))?;
    Grant::try_from(grant).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refused(error: &OperatorError) -> Status {
    match error {
        OperatorError::First { .. } | OperatorError::Known { .. } | OperatorError::TooMany => {
            Status::failed_precondition(error.to_string())
        }
        OperatorError::Unknown { .. } => Status::not_found(error.to_string()),
        OperatorError::Store(error) => store_failed(error),
        OperatorError::Commit(error) => commit_failed(error),
    }
}

fn done(detail: String) -> Response<wire::CommandReply> {
    Response::new(wire::CommandReply { ok: true, detail, guard: false })
}

/// How long a token is valid.
pub(super) fn validity(seconds: u64) -> Result<Duration, Status> {
    let valid = match seconds {
        0 => TOKEN_VALID,
        seconds => Duration::from_secs(seconds),
    };
    if TOKEN_VALID_MAX < valid {
        return Err(Status::invalid_argument(format!(
            "a join token is valid for at most {}, not for {}; ask for less, and make another token when it is needed",
            Human(TOKEN_VALID_MAX).in_days(),
            Human(valid).in_days()
        )));
    }
    Ok(valid)
}

#[tonic::async_trait]
impl Operators for Registry {
    async fn add(
        &self,
        request: Request<wire::AddOperatorRequest>,
    ) -> Result<Response<wire::AddOperatorReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let name = name_of(&request.name)?;
        let invitation = match request.again {
            true => Invitation::Again,
            false => Invitation::New(grant_of(request.grant.as_ref())?),
        };
        let grant = match &invitation {
            Invitation::New(grant) => Some(grant),
            Invitation::Again => None,
        };
        let reached = self.reached(&name, grant).await?;
        let permit = caller.permit(Action::ManageOperators, &reached).await?;
        let valid = validity(request.valid_seconds)?;
        let invited = self.coordinator.invite_operator(&name, invitation, (valid, &permit)).await;
        let invited = invited.map_err(|error| refused(&error))?;
        Ok(Response::new(wire::AddOperatorReply {
            token: invited.token.to_text(),
            expires_ms: invited.expires.0,
            warnings: self.unknown_groups(&invited.grant).await?,
            grant: Some((&invited.grant).into()),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListOperatorsRequest>,
    ) -> Result<Response<wire::ListOperatorsReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        caller.look().await?;
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let you = caller.principal.name.as_str();
        let first = wire::OperatorInfo {
            name: FIRST_OPERATOR.to_owned(),
            grant: Some((&Grant::first()).into()),
            you: you == FIRST_OPERATOR,
            ..wire::OperatorInfo::default()
        };
        let others = snapshot.operators.values().map(|operator| {
            let certificate = operator.certificate.as_ref();
            wire::OperatorInfo {
                name: operator.name.to_string(),
                grant: Some((&operator.grant).into()),
                since_ms: operator.since.0,
                by: operator.by.clone(),
                joined_ms: certificate.map_or(0, |own| own.joined.0),
                certificate_expires_ms: certificate.map_or(0, |own| own.expires.0),
                you: you == operator.name.as_str(),
            }
        });
        Ok(Response::new(wire::ListOperatorsReply { operators: [first].into_iter().chain(others).collect() }))
    }

    async fn set(
        &self,
        request: Request<wire::SetOperatorRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let (name, grant) = (name_of(&request.name)?, grant_of(request.grant.as_ref())?);
        let reached = self.reached(&name, Some(&grant)).await?;
        let permit = caller.permit(Action::ManageOperators, &reached).await?;
        let changed = self.coordinator.set_operator(&name, &grant, &permit).await;
        let already = if changed.map_err(|error| refused(&error))? { "now" } else { "already" };
        let mut detail = format!("{name} is {already} {grant}");
        for warning in self.unknown_groups(&grant).await? {
            detail.push_str(&format!("; {warning}"));
        }
        Ok(done(detail))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveOperatorRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let name = name_of(&request.get_ref().name)?;
        let reached = self.reached(&name, None).await?;
        let permit = caller.permit(Action::ManageOperators, &reached).await?;
        let removed = self.coordinator.remove_operator(&name, &permit).await;
        removed.map_err(|error| refused(&error))?;
        Ok(done(format!("{name} is removed: the certificate and unused join tokens count no longer")))
    }
}
