//! The coordinator's secrets: values go in, names come out.

use fleet::spec::{Secret, SecretName};
use proto::wire::operator as wire;

use super::{Client, convert, timed};
use crate::{exit::Failure, view};

impl Client {
    /// Sets or replaces one value.
    pub async fn set_secret(&mut self, name: &SecretName, value: &Secret) -> Result<view::Answer, Failure> {
        let request = wire::SetSecretRequest { name: name.to_string(), value: value.expose().to_owned() };
        let reply = self.secrets.set(timed(request)).await;
        convert::answer(self.answer("secret set", reply)?)
    }

    /// All names.
    pub async fn secrets(&mut self) -> Result<Vec<view::SecretName>, Failure> {
        let reply = self.secrets.list(timed(wire::ListSecretsRequest {})).await;
        let secrets = self.answer("secret list", reply)?.secrets.into_iter();
        let name = |secret: wire::SecretInfo| view::SecretName {
            name: secret.name,
            changed: view::When(secret.changed_ms),
            changed_by: secret.changed_by,
            groups: secret.groups,
        };
        Ok(secrets.map(name).collect())
    }

    /// Removes one.
    pub async fn remove_secret(&mut self, name: &SecretName) -> Result<view::Answer, Failure> {
        let request = wire::RemoveSecretRequest { name: name.to_string() };
        let reply = self.secrets.remove(timed(request)).await;
        convert::answer(self.answer("secret remove", reply)?)
    }
}
