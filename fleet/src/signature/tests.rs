use super::*;

const SSH: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE/mSM43XW2wqo7RNF0Kcf6SMDl1gkX2NwT1EL/pvXK ann@acme laptop";
const MINISIGN: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fn key(text: &str) -> SigningKey {
    SigningKey::parse(text).unwrap()
}

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
}

/// What differs from one upload to the next.
#[derive(Clone, Default)]
struct Upload {
    parent: u64,
    epoch: u8,
    nodes: BTreeSet<NodeName>,
    groups: BTreeSet<GroupName>,
    packs: BTreeMap<String, Digest>,
    files: Vec<(&'static str, &'static str)>,
}

impl Upload {
    fn statement(&self) -> String {
        let sources = sources(&self.files);
        let signable = Signable {
            fleet: &FleetName::parse("acme-prod").unwrap(),
            epoch: FleetEpoch([self.epoch; 16]),
            parent: Revision(self.parent),
            nodes: &self.nodes,
            groups: &self.groups,
            packs: &self.packs,
            sources: &sources,
        };
        signable.statement()
    }
}

#[test]
fn a_statement_can_be_made_by_hand() {
    let upload = Upload {
        parent: 7,
        epoch: 0xab,
        files: vec![("fleet.toml", "name = \"a\"\n"), ("layers/a.toml", "")],
        ..Upload::default()
    };
    // `sha256sum fleet.toml layers/a.toml | sha256sum`
    assert_eq!(
        upload.statement(),
        "convoy apply v1\nfleet acme-prod\nstore abababababababababababababababab\nparent 7\nall nodes\nfiles 2 sha256 \
         94f5b51b47e695d2d8d028aa962ab9253804cac3e67f1070b47d854053d65ca0\n"
    );
    let part = Upload {
        nodes: [NodeName::parse("is-1").unwrap()].into(),
        groups: [GroupName::parse("gateway").unwrap()].into(),
        packs: [("wso2is-7.1".to_owned(), Digest([1; 32]))].into(),
        ..upload
    };
    let pack = "01".repeat(32);
    let lines: Vec<String> = part.statement().lines().map(str::to_owned).collect();
    assert_eq!(lines[4..7], ["node is-1", "group gateway", &format!("pack \"wso2is-7.1\" {pack}")]);
}

#[test]
fn no_two_applies_have_the_same_statement() {
    let base = Upload { parent: 1, epoch: 1, files: vec![("a", "b"), ("c", "")], ..Upload::default() };
    let with = |change: fn(&mut Upload)| {
        let mut upload = base.clone();
        change(&mut upload);
        upload.statement()
    };
    let all = [
        with(|_| ()),
        with(|it| it.parent = 2),
        with(|it| it.epoch = 2),
        with(|it| it.nodes = [NodeName::parse("x").unwrap()].into()),
        with(|it| it.groups = [GroupName::parse("x").unwrap()].into()),
        with(|it| it.packs = [("x".to_owned(), Digest([0; 32]))].into()),
        with(|it| it.packs = [("x".to_owned(), Digest([1; 32]))].into()),
        // Neither a product nor a path makes a line of its own.
        with(|it| it.packs = [("x\"\nnode y".to_owned(), Digest([1; 32]))].into()),
        with(|it| it.files = vec![("a", "b")]),
        with(|it| it.files = vec![("a", ""), ("c", "b")]),
        with(|it| it.files = vec![("a\nc", "b")]),
        with(|it| it.files = vec![]),
    ];
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:#?}");
    assert!(all.iter().all(|text| !text.contains("\nnode y")));
}

#[test]
fn a_key_is_named_by_its_comment() {
    assert_eq!(key(SSH).name(), "the SSH key ann@acme laptop");
    assert_eq!(key(MINISIGN).name(), "the minisign key …TaLn73Y7GFO3");
    assert_eq!(key(&format!("{MINISIGN} release")).name(), "the minisign key release");
    assert!(key(SSH).is_same(&key(&SSH.replace(" ann@acme laptop", ""))));
    assert!(!key(SSH).is_same(&key(MINISIGN)));
    assert_eq!(key(&key(SSH).to_string()), key(SSH));
    let long = key(&format!("{MINISIGN} \u{1b}[2J {}", "ä".repeat(200)));
    assert!(long.name().len() < 130 && !long.name().contains('\u{1b}'), "{}", long.name());
}

#[test]
fn what_cannot_sign_is_refused_with_what_can() {
    let why = |text: &str| SigningKey::parse(text).unwrap_err().to_string();
    for (text, says) in [
        ("ssh-rsa AAAA ann", "of SSH keys, only ssh-ed25519 is taken"),
        ("sk-ssh-ed25519@openssh.com AAAA", "only ssh-ed25519 is taken"),
        ("", "neither the line of an SSH public key file nor a minisign public key"),
        ("hello world", "nor a minisign public key"),
        (&SSH[..60], "something of it is missing"),
        (&SSH.replace('z', "-"), "is not base64"),
        (&SSH.replace("AAAAI", "AAAAB"), "something of it is missing"),
        (&MINISIGN[..55], "something of it is missing"),
    ] {
        assert!(why(text).contains(says), "{text}: {}", why(text));
    }
    assert!(!why("\u{1b}[2J").contains('\u{1b}'));
}

fn rules(required: bool, keys: &[&str]) -> SignatureRules {
    SignatureRules { required, keys: keys.iter().map(|text| key(text)).collect() }
}

#[test]
fn the_keys_in_force_sign_what_replaces_them() {
    let (old, new) = (rules(true, &[SSH]), rules(true, &[MINISIGN]));
    assert_eq!(candidates(Some(&old), &new), old.keys);
    assert_eq!(candidates(Some(&old), &SignatureRules::default()), old.keys);
    // The first list, also if rules without keys are in force.
    assert_eq!(candidates(None, &new), new.keys);
    assert_eq!(candidates(Some(&SignatureRules::default()), &new), new.keys);
}

#[test]
fn what_may_follow_is_judged_by_what_is_in_force() {
    let (required, optional) = (rules(true, &[SSH]), rules(false, &[SSH]));
    let (ann, other, back) = (key(SSH), key(MINISIGN), Some(Revision(3)));
    let signers = || "the SSH key ann@acme laptop".to_owned();
    let stranger = "the minisign key …TaLn73Y7GFO3".to_owned();
    let rows = [
        (None, None, None, Ok(())),
        (Some(&optional), None, None, Ok(())),
        (Some(&optional), None, back, Ok(())),
        (Some(&required), Some(&ann), None, Ok(())),
        (Some(&required), Some(&ann), back, Ok(())),
        (Some(&required), None, None, Err(Unsigned::Missing { signers: signers() })),
        (
            Some(&required),
            Some(&other),
            None,
            Err(Unsigned::NotListed { key: stranger.clone(), signers: signers() }),
        ),
        (Some(&required), None, back, Err(Unsigned::BackToUnsigned { to: Revision(3), signers: signers() })),
        (
            Some(&required),
            Some(&other),
            back,
            Err(Unsigned::BackToNotListed { to: Revision(3), key: stranger, signers: signers() }),
        ),
    ];
    for (running, signed, back_to, expected) in rows {
        assert_eq!(may_follow(running, signed, back_to), expected, "{running:?} {signed:?} {back_to:?}");
    }
}
