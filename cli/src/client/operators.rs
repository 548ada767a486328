//! Who may do what.

use std::time::Duration;

use fleet::{
    access::Grant,
    ids::{GroupName, OperatorName},
    spec::SecretName,
};
use proto::wire::operator as wire;

use super::{Client, convert, timed};
use crate::{exit::Failure, view};

fn grant_of(wire: Option<&wire::Grant>) -> Result<Grant, Failure> {
    let grant = wire.ok_or("no grant".to_owned());
    let grant = grant.and_then(|grant| Grant::try_from(grant).map_err(|error| error.to_string()));
    grant.map_err(|why| {
        Failure::failed(
            format!("the coordinator's answer cannot be read: {why}"),
            "it is of another version than this command; upgrade the older one",
        )
    })
}

impl Client {
    /// Adds an operator, or with no grant makes another token for one who is known.
    pub async fn add_operator(
        &mut self,
        name: &OperatorName,
        grant: Option<&Grant>,
        valid: Duration,
    ) -> Result<view::OperatorToken, Failure> {
        let request = wire::AddOperatorRequest {
            name: name.to_string(),
            grant: grant.map(Into::into),
            again: grant.is_none(),
            valid_seconds: valid.as_secs(),
        };
        let reply = self.operators.add(timed(request)).await;
        let reply = self.answer("operator add", reply)?;
        let grant = grant_of(reply.grant.as_ref())?;
        Ok(view::OperatorToken {
            operator: name.to_string(),
            role: grant.role.to_string(),
            groups: grant.scope.groups().map(ToString::to_string).collect(),
            token: reply.token,
            expires: view::When(reply.expires_ms),
            warnings: reply.warnings,
        })
    }

    /// Everybody who may do something.
    pub async fn operators(&mut self) -> Result<Vec<view::Operator>, Failure> {
        let reply = self.operators.list(timed(wire::ListOperatorsRequest {})).await;
        let reply = self.answer("operator list", reply)?;
        let known = |ms: i64| (ms != 0).then_some(view::When(ms));
        let operator = |it: wire::OperatorInfo| {
            let grant = grant_of(it.grant.as_ref())?;
            Ok(view::Operator {
                name: it.name,
                role: grant.role.to_string(),
                groups: grant.scope.groups().map(ToString::to_string).collect(),
                since: known(it.since_ms),
                by: Some(it.by).filter(|by| !by.is_empty()),
                joined: known(it.joined_ms),
                certificate_expires: known(it.certificate_expires_ms),
                you: it.you,
            })
        };
        reply.operators.into_iter().map(operator).collect()
    }

    /// Gives an operator other rights.
    pub async fn set_operator(
        &mut self,
        name: &OperatorName,
        grant: &Grant,
    ) -> Result<view::Answer, Failure> {
        let request = wire::SetOperatorRequest { name: name.to_string(), grant: Some(grant.into()) };
        let reply = self.operators.set(timed(request)).await;
        convert::answer(self.answer("operator set", reply)?)
    }

    /// Removes one.
    pub async fn remove_operator(&mut self, name: &OperatorName) -> Result<view::Answer, Failure> {
        let request = wire::RemoveOperatorRequest { name: name.to_string() };
        let reply = self.operators.remove(timed(request)).await;
        convert::answer(self.answer("operator remove", reply)?)
    }

    /// Says which groups may use a secret.
    pub async fn grant_secret(
        &mut self,
        name: &SecretName,
        groups: &[GroupName],
    ) -> Result<view::Answer, Failure> {
        let groups = groups.iter().map(ToString::to_string).collect();
        let reply =
            self.secrets.grant(timed(wire::GrantSecretRequest { name: name.to_string(), groups })).await;
        convert::answer(self.answer("secret grant", reply)?)
    }
}
