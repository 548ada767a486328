//! Where a fleet directory came from, in the store and on the wire alike.

use fleet::origin::Origin;

use super::{ConvertError, invalid};
use crate::wire::operator as wire;

impl From<&Origin> for wire::Origin {
    fn from(origin: &Origin) -> Self {
        Self {
            commit: origin.commit().to_owned(),
            branch: origin.branch().unwrap_or_default().to_owned(),
            author: origin.author().to_owned(),
            changed: origin.changed(),
        }
    }
}

impl TryFrom<&wire::Origin> for Origin {
    type Error = ConvertError;

    fn try_from(wire: &wire::Origin) -> Result<Self, ConvertError> {
        let origin = Self::new(&wire.commit, &wire.branch, &wire.author, wire.changed);
        origin.map_err(|error| invalid("Origin", "commit", error.to_string()))
    }
}
