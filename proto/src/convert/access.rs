//! Roles and what they reach.

use fleet::{
    access::{Grant, Role, Scope},
    ids::GroupName,
};

use super::{ConvertError, invalid};
use crate::wire::operator as wire;

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

impl From<&Grant> for wire::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            role: wire::Role::from(grant.role).into(),
            groups: grant.scope.groups().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<&wire::Grant> for Grant {
    type Error = ConvertError;

    fn try_from(wire: &wire::Grant) -> Result<Self, ConvertError> {
        let role = match wire.role() {
            wire::Role::Viewer => Role::Viewer,
            wire::Role::Operator => Role::Operator,
            wire::Role::Admin => Role::Admin,
            wire::Role::Unspecified => {
                return Err(invalid("Grant", "role", format!("{} is no role that is known here", wire.role)));
            }
        };
        let group = |name: &String| {
            GroupName::parse(name).map_err(|error| invalid("Grant", "groups", error.to_string()))
        };
        let groups = wire.groups.iter().map(group).collect::<Result<_, _>>()?;
        Ok(Self { role, scope: Scope::of(groups) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_comes_back_and_an_unknown_role_is_none() {
        for role in Role::ALL {
            for groups in [&[][..], &["km", "gateway"]] {
                let groups = groups.iter().map(|name| GroupName::parse(name).unwrap()).collect();
                let grant = Grant { role, scope: Scope::of(groups) };
                assert_eq!(Grant::try_from(&wire::Grant::from(&grant)).unwrap(), grant);
            }
        }
        for role in [0, 4] {
            let unknown = wire::Grant { role, groups: Vec::new() };
            assert!(Grant::try_from(&unknown).is_err(), "{role}");
        }
        let bad = wire::Grant { role: 1, groups: vec!["K M".to_owned()] };
        assert!(Grant::try_from(&bad).unwrap_err().to_string().contains("invalid groups"));
    }
}
