//! Tries a TCP connection to everything that the server will connect to. Nothing is sent.

use std::time::Duration;

use fleet::preflight::{
    Endpoint,
    facts::EndpointFact,
    needs::{Address, Target},
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

/// Longer than one lost SYN (1 s) and its first repetition.
const TIMEOUT: Duration = Duration::from_secs(4);
/// More endpoints than this are not tried.
const ENDPOINTS_MAX: usize = 64;

/// All endpoints at the same time, in their order.
pub(super) async fn try_all(endpoints: Vec<Endpoint>) -> Vec<(Endpoint, EndpointFact)> {
    let mut attempts = JoinSet::new();
    for (place, endpoint) in endpoints.into_iter().take(ENDPOINTS_MAX).enumerate() {
        attempts.spawn(async move {
            let fact = try_one(&endpoint.target).await;
            (place, (endpoint, fact))
        });
    }
    let mut tried = attempts.join_all().await;
    tried.sort_by_key(|(place, _)| *place);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

/// Drivers try the addresses in turn, so one that answers is enough.
async fn try_one(target: &Target) -> EndpointFact {
    let addresses = match target {
        Target::Addresses(addresses) => addresses,
        Target::Unknown(why) => return EndpointFact::Unreachable(why.clone()),
    };
    let started = Instant::now();
    let mut whys = Vec::new();
    for address in addresses {
        match connect(address).await {
            Ok(()) => return EndpointFact::Reached(started.elapsed()),
            Err(why) => whys.push(why),
        }
    }
    EndpointFact::Unreachable(whys.join("; "))
}

async fn connect(address: &Address) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, TcpStream::connect((address.host.as_str(), address.port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}
