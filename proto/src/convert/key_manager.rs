//! Key Managers of a bundle on the wire.

use std::time::Duration;

use fleet::{
    ids::NodeName,
    key_manager::{Account, AdminApi, Connector, Elsewhere, KEY_MANAGERS_MAX, KeyManagers, Registration},
    spec::Secret,
};

use crate::{
    convert::{
        ConvertError,
        bundle::{digest, millis, policy_from_wire, policy_to_wire},
        invalid, required,
    },
    wire::bundle as wire,
};

/// `None` for none, so that a bundle of a version that knew none keeps its bytes.
pub(crate) fn key_managers_to_wire(key_managers: &KeyManagers) -> Option<wire::KeyManagers> {
    let elsewhere = key_managers
        .elsewhere
        .iter()
        .map(|other| wire::Elsewhere { name: other.name.clone(), keeper: other.keeper.to_string() });
    let wire = wire::KeyManagers {
        kept: key_managers.kept.iter().map(registration_to_wire).collect(),
        elsewhere: elsewhere.collect(),
    };
    (!key_managers.is_empty()).then_some(wire)
}

fn registration_to_wire(one: &Registration) -> wire::Registration {
    wire::Registration {
        name: one.name.clone(),
        r#type: one.connector.as_str().to_owned(),
        server: one.server.clone(),
        display_name: one.display_name.clone(),
        grant_types: one.grant_types.clone(),
        role_creation: one.role_creation,
        username: one.account.user.clone(),
        password: one.account.password.expose().to_owned(),
        drift: policy_to_wire(one.drift).into(),
        check_interval_ms: millis(one.check_interval),
        admin_url: one.admin.url.clone(),
        admin_user: one.admin.account.user.clone(),
        admin_password: one.admin.account.password.expose().to_owned(),
        admin_certificate: one.admin.certificate.map(|digest| digest.0.to_vec()).unwrap_or_default(),
    }
}

pub(crate) fn key_managers_from_wire(wire: Option<wire::KeyManagers>) -> Result<KeyManagers, ConvertError> {
    let Some(wire) = wire else { return Ok(KeyManagers::default()) };
    if KEY_MANAGERS_MAX < wire.kept.len() || KEY_MANAGERS_MAX < wire.elsewhere.len() {
        return Err(invalid("KeyManagers", "kept", format!("more than {KEY_MANAGERS_MAX}")));
    }
    let elsewhere = wire.elsewhere.into_iter().map(|other| {
        let keeper = NodeName::parse(&other.keeper)
            .map_err(|error| invalid("Elsewhere", "keeper", error.to_string()))?;
        Ok(Elsewhere { name: other.name, keeper })
    });
    Ok(KeyManagers {
        elsewhere: elsewhere.collect::<Result<_, ConvertError>>()?,
        kept: wire.kept.into_iter().map(registration_from_wire).collect::<Result<_, _>>()?,
    })
}

fn registration_from_wire(wire: wire::Registration) -> Result<Registration, ConvertError> {
    let connector = Connector::ALL.iter().find(|(_, word)| *word == wire.r#type).map(|(known, _)| *known);
    let certificate = Some(&wire.admin_certificate).filter(|bytes| !bytes.is_empty());
    let account = |user: String, password: String| Account { user, password: Secret::new(password) };
    let registration = Registration {
        drift: policy_from_wire(wire.drift(), "Registration", "drift")?,
        connector: required(connector, "Registration", "type")?,
        name: wire.name,
        server: wire.server,
        display_name: wire.display_name,
        grant_types: wire.grant_types,
        role_creation: wire.role_creation,
        account: account(wire.username, wire.password),
        check_interval: Duration::from_millis(wire.check_interval_ms),
        admin: AdminApi {
            url: wire.admin_url,
            account: account(wire.admin_user, wire.admin_password),
            certificate: certificate
                .map(|bytes| digest(bytes, "Registration", "admin_certificate"))
                .transpose()?,
        },
    };
    match registration.problem() {
        None => Ok(registration),
        Some((_, why)) => Err(invalid("Registration", "kept", format!("a value {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use fleet::{bundle::DriftPolicy, ids::Digest};

    use super::*;

    #[test]
    fn key_managers_read_back() {
        let kept = Registration {
            name: "IS7".into(),
            connector: Connector::Is7,
            server: "https://km.example.org".into(),
            display_name: "Identity Server".into(),
            grant_types: vec!["client_credentials".into()],
            role_creation: Some(false),
            account: Account { user: "admin".into(), password: Secret::new("a") },
            drift: DriftPolicy::Report,
            check_interval: Duration::from_secs(60),
            admin: AdminApi {
                url: "https://localhost:9443".into(),
                account: Account { user: "admin".into(), password: Secret::new("b") },
                certificate: Some(Digest::of(b"c")),
            },
        };
        let elsewhere = Elsewhere { name: "other".into(), keeper: "am-1".parse().unwrap() };
        let both = KeyManagers { kept: vec![kept], elsewhere: vec![elsewhere] };
        let wire = key_managers_to_wire(&both);
        assert_eq!(key_managers_from_wire(wire.clone()).unwrap(), both);
        assert!(key_managers_to_wire(&KeyManagers::default()).is_none());
        type Edit = fn(&mut wire::Registration);
        let bad: [Edit; 4] = [
            |one| one.r#type = "Keycloak".into(),
            |one| one.server = "http://km".into(),
            |one| one.admin_certificate = vec![1],
            |one| one.name = String::new(),
        ];
        for edit in bad {
            let mut wire = wire.clone();
            edit(&mut wire.as_mut().unwrap().kept[0]);
            assert!(key_managers_from_wire(wire).is_err());
        }
    }
}
