//! What database servers allow (ADR 80).

use fleet::preflight::{
    databases::{DatabaseLimit, LIMITS_MAX},
    needs::Address,
};

use crate::{
    convert::{
        ConvertError, invalid,
        link::{bounded, foreign},
    },
    wire::agent as wire,
};

/// Addresses of one data source at most; drivers take a handful.
const ADDRESSES_MAX: usize = 16;

pub(super) fn limit_to_wire(limit: &DatabaseLimit) -> wire::DatabaseLimit {
    let address = |address: &Address| wire::DatabaseAddress {
        host: bounded(&address.host),
        port: u32::from(address.port),
    };
    wire::DatabaseLimit {
        addresses: limit.addresses.iter().take(ADDRESSES_MAX).map(address).collect(),
        connections_max: limit.connections_max,
    }
}

pub(super) fn limits_from_wire(wire: Vec<wire::DatabaseLimit>) -> Result<Vec<DatabaseLimit>, ConvertError> {
    let refused = |why| invalid("HostFacts", "databases", why);
    if LIMITS_MAX < wire.len() {
        return Err(refused("more than any agent sends"));
    }
    let address = |address: wire::DatabaseAddress| {
        let port = u16::try_from(address.port).map_err(|_| refused("no port"))?;
        Ok(Address { host: foreign(&address.host), port })
    };
    let limit = |limit: wire::DatabaseLimit| {
        if !(1..=ADDRESSES_MAX).contains(&limit.addresses.len()) || limit.connections_max == 0 {
            return Err(refused("a limit of nobody, or of nothing"));
        }
        let addresses = limit.addresses.into_iter().map(address).collect::<Result<_, _>>()?;
        Ok(DatabaseLimit { addresses, connections_max: limit.connections_max })
    };
    wire.into_iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_and_are_bounded() {
        let address = |host: &str| Address { host: host.to_owned(), port: 3306 };
        let limit = DatabaseLimit { addresses: vec![address("db-1"), address("::1")], connections_max: 151 };
        let wire = limit_to_wire(&limit);
        assert_eq!(limits_from_wire(vec![wire.clone()]).unwrap(), [limit]);
        assert!(limits_from_wire(vec![wire.clone(); LIMITS_MAX + 1]).is_err());
        let nobody = wire::DatabaseLimit { addresses: Vec::new(), ..wire.clone() };
        let nothing = wire::DatabaseLimit { connections_max: 0, ..wire.clone() };
        let mut no_port = wire;
        no_port.addresses[0].port = 65_536;
        for refused in [nobody, nothing, no_port] {
            assert!(limits_from_wire(vec![refused.clone()]).is_err(), "{refused:?}");
        }
    }
}
