//! Places for connections, shared so that nobody keeps the others out.
//!
//! A holder has a bound of its own, and all holders together have one. Whoever comes when a bound is reached takes the
//! place of the oldest connection of the same holder, or of the one that holds most. What is busy is not pushed out by
//! its own holder; a newcomer for whom there is no place is refused.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use fleet::ids::NodeName;
use tokio_util::sync::CancellationToken;

/// Who holds a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Somebody at an address who has not shown a certificate. One holder has all of an IPv6 network of 64 bits.
    Address(IpAddr),
    /// An agent.
    Node(NodeName),
    /// An operator.
    Operator(String),
}

impl Holder {
    /// Whoever is at an address.
    pub fn at(address: SocketAddr) -> Self {
        Self::Address(match address.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits((ip.to_bits() >> 64) << 64)),
        })
    }
}

/// A bounded number of places.
pub struct Shares {
    most: usize,
    most_of_one: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    total: usize,
    holders: BTreeMap<Holder, BTreeMap<u64, Place>>,
}

struct Place {
    cut: CancellationToken,
    busy: Arc<AtomicBool>,
}

/// One place, until it is dropped.
pub struct Held {
    shares: Arc<Shares>,
    holder: Holder,
    id: u64,
    cut: CancellationToken,
    busy: Arc<AtomicBool>,
}

impl Shares {
    /// At most `most` places, and at most `most_of_one` of one holder.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, state: Mutex::default() })
    }

    /// A place for `holder`, which may be somebody's until now.
    pub fn take(self: &Arc<Self>, holder: &Holder) -> Option<Held> {
        let mut state = self.lock();
        let own = state.held_by(holder);
        if self.most_of_one <= own {
            state.cut_oldest(holder, Victim::Idle)?;
        } else if self.most <= state.total {
            let (greatest, held) = state.greatest()?;
            if own + 1 < held {
                state.cut_oldest(&greatest, Victim::Any)?;
            } else {
                // Among equals nobody gives way to another, only to itself.
                state.cut_oldest(holder, Victim::Idle)?;
            }
        }
        let id = state.next;
        state.next += 1;
        state.total += 1;
        let (cut, busy) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let place = Place { cut: cut.clone(), busy: busy.clone() };
        state.holders.entry(holder.clone()).or_default().insert(id, place);
        Some(Held { shares: self.clone(), holder: holder.clone(), id, cut, busy })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose place may be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// Of those that are not busy.
    Idle,
    /// Of those that are not busy, or of all if there are none.
    Any,
}

impl State {
    fn held_by(&self, holder: &Holder) -> usize {
        self.holders.get(holder).map_or(0, BTreeMap::len)
    }

    fn greatest(&self) -> Option<(Holder, usize)> {
        let (holder, places) = self.holders.iter().max_by_key(|(_, places)| places.len())?;
        Some((holder.clone(), places.len()))
    }

    /// Ends the oldest connection of a holder, an idle one rather than a busy one.
    fn cut_oldest(&mut self, holder: &Holder, victim: Victim) -> Option<()> {
        let places = self.holders.get(holder)?;
        let idle = places.iter().find(|(_, place)| !place.busy.load(Ordering::Relaxed));
        let (id, place) = idle.or_else(|| places.iter().next().filter(|_| victim == Victim::Any))?;
        place.cut.cancel();
        let id = *id;
        self.remove(holder, id);
        Some(())
    }

    fn remove(&mut self, holder: &Holder, id: u64) {
        let Some(places) = self.holders.get_mut(holder) else { return };
        // Whoever was cut is not here any more.
        if places.remove(&id).is_some() {
            self.total -= 1;
        }
        if places.is_empty() {
            self.holders.remove(holder);
        }
    }
}

impl Held {
    /// Cancelled when somebody else needs the place.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// From now on others of the same holder do not get it.
    pub fn be_busy(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shares.lock().remove(&self.holder, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> Holder {
        Holder::at(SocketAddr::from(([10, 0, 0, last], 1)))
    }

    #[test]
    fn one_holder_pushes_out_itself_and_nobody_else() {
        let shares = Shares::new(10, 3);
        let other = shares.take(&at(2)).unwrap();
        let mut own: Vec<Held> = (0..5).map(|_| shares.take(&at(1)).unwrap()).collect();
        let cut: Vec<bool> = own.iter().map(|held| held.cut().is_cancelled()).collect();
        assert_eq!(cut, [true, true, false, false, false]);
        assert!(!other.cut().is_cancelled());
        // What is busy stays, and there is no place beyond it.
        own.iter().for_each(Held::be_busy);
        assert!(shares.take(&at(1)).is_none());
        own.pop();
        assert!(shares.take(&at(1)).is_some());
    }

    #[test]
    fn a_newcomer_takes_the_place_of_whoever_holds_most() {
        let shares = Shares::new(4, 4);
        let loud: Vec<Held> = (0..4).map(|_| shares.take(&at(1)).unwrap()).collect();
        let first = shares.take(&at(2)).unwrap();
        let second = shares.take(&at(2)).unwrap();
        let cut: Vec<bool> = loud.iter().map(|held| held.cut().is_cancelled()).collect();
        assert_eq!(cut, [true, true, false, false]);
        // Two and two: neither of the two gets more, and a third holder gets one.
        let third = shares.take(&at(2)).unwrap();
        assert!(first.cut().is_cancelled() && !second.cut().is_cancelled());
        let other = shares.take(&at(3)).unwrap();
        assert_eq!(shares.lock().held_by(&at(3)), 1);
        // One each and one more: a fourth holder has to wait, for nobody holds more than one above it.
        let another = shares.take(&at(4)).unwrap();
        let holders = shares.lock().holders.len();
        assert_eq!(holders, 4);
        assert!(shares.take(&at(5)).is_none());
        drop((loud, first, second, third, other, another));
        let state = shares.lock();
        assert!(state.total == 0 && state.holders.is_empty(), "cut or not, each place is given back once");
    }

    #[test]
    fn a_network_of_addresses_is_one_holder() {
        let at = |text: &str| Holder::at(SocketAddr::new(text.parse().unwrap(), 1));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }
}
