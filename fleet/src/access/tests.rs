use std::collections::BTreeSet;

use super::*;

fn groups(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|name| GroupName::parse(name).unwrap()).collect()
}

fn somebody(name: &str, role: Role, of: &[&str]) -> Principal {
    let grant = Grant { role, scope: Scope::of(groups(of)) };
    Principal {
        name: OperatorName::parse(name).unwrap(),
        grant,
        version: 0,
        serial: String::new(),
        from: None,
    }
}

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

/// One row per action, one column per who and where: `+` allowed, `-` denied.
#[test]
fn each_role_may_do_what_the_table_says() {
    let who = [
        somebody("viewer", Role::Viewer, &[]),
        somebody("own", Role::Operator, &["km"]),
        somebody("foreign", Role::Operator, &["gateway"]),
        somebody("operator", Role::Operator, &[]),
        somebody("own-admin", Role::Admin, &["km"]),
        somebody("foreign-admin", Role::Admin, &["gateway"]),
        somebody("admin", Role::Admin, &[]),
    ];
    let signs = |action: Action, targets: &Targets| -> String {
        who.iter().map(|who| if may(who, action, targets).is_ok() { '+' } else { '-' }).collect()
    };
    let (km, fleet) = (Targets::from([group("km")]), Targets::from([Target::Fleet]));
    for action in Action::ALL {
        let (in_group, of_fleet) = match action.needs() {
            Role::Viewer => ("+++++++", "+++++++"),
            Role::Operator => ("-+-++-+", "---+--+"),
            Role::Admin => ("----+-+", "------+"),
        };
        assert_eq!(signs(action, &km), in_group, "{action} in a group");
        assert_eq!(signs(action, &fleet), of_fleet, "{action} of the fleet");
        let both = Targets::from([group("km"), group("gateway")]);
        assert_eq!(signs(action, &both), of_fleet, "{action} in two groups");
    }
}

#[test]
fn whatever_belongs_to_no_group_takes_the_whole_fleet() {
    let own = somebody("bob", Role::Operator, &["km"]);
    let node = NodeName::parse("is-9").unwrap();
    let km = GroupName::parse("km").unwrap();
    for target in [
        Target::NoGroup(node),
        Target::Fleet,
        Target::Secret(secret("db")),
        Target::ForeignSecret { secret: secret("db"), group: km },
    ] {
        let denied = may(&own, Action::Apply, &[group("km"), target.clone()].into()).unwrap_err();
        assert_eq!(denied.beyond, [target].into());
    }
}

#[test]
fn a_refusal_names_role_scope_and_who_could() {
    let admin = somebody("admin", Role::Admin, &[]);
    let (bob, carol) = (somebody("bob", Role::Operator, &["gateway"]), somebody("carol", Role::Viewer, &[]));
    let everybody = [admin, bob.clone(), carol.clone(), somebody("dora", Role::Operator, &["km"])];
    let said = |who: &Principal, action, targets: &Targets| {
        may(who, action, targets).unwrap_err().with_able(everybody.iter()).to_string()
    };
    assert_eq!(
        said(&bob, Action::Restart, &[group("km")].into()),
        "bob is operator of group gateway; restarting a server takes the role operator for group km; ask admin or \
         dora"
    );
    assert_eq!(
        said(&carol, Action::ManageOperators, &[Target::Fleet].into()),
        "carol is viewer of the whole fleet; managing operators takes the role admin for the whole fleet; ask admin"
    );
    let foreign = Target::ForeignSecret { secret: secret("db"), group: GroupName::parse("gateway").unwrap() };
    assert_eq!(
        said(&bob, Action::Apply, &[group("gateway"), foreign].into()),
        "bob is operator of group gateway; applying this takes the role operator for the whole fleet, because the secret \
         db was not granted to group gateway; ask admin"
    );
}

#[test]
fn a_permit_says_who_may_do_what() {
    let bob = somebody("bob", Role::Operator, &["km"]);
    let permit = may(&bob, Action::Restart, &[group("km")].into()).unwrap();
    assert_eq!((permit.operator().as_str(), permit.action()), ("bob", Action::Restart));
    assert_eq!((permit.principal(), permit.targets()), (&bob, &[group("km")].into()));
}

#[test]
fn words_are_read_back_and_each_has_one() {
    for role in Role::ALL {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!(Role::parse("root"), None);
    let words: BTreeSet<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(words.len(), Action::ALL.len());
}
