use super::*;

const SSH: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE/mSM43XW2wqo7RNF0Kcf6SMDl1gkX2NwT1EL/pvXK ann@acme laptop";
const MINISIGN: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

const ECDSA: &str = r"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBXObot00Kt3uP1Ad7f124XwzhoKDtznhJJtPmC2Hi8E2L7ndK8kVhYupl4J5PhGdUwXdrz+ZYak7JCuN9H7Pr8= carol";
const RSA_3072: &str = r"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDD8OYtIBYNJR60LpqPIL6sV2xgyAU10xnT/p44nR0ROCRhJN/WfpR9Cd7yAKN2FXe2n2NCKGueceeWN96QMdxACsQqk5jppBVzez3sJxUyVW8wompBY8R/rxgZ/cifPqkPkw/wccnWPnnmBwrRTXO94fS5oTbxx5epf4vBi1QR9Zz6K0Ixl4n9I7PN+zmw3lU9KvhGJNNLyU2TkJu/qhVhnmASYL7b/FGqdbR62YhfxuoVo3YV9Cvqmsrayvz4g2T4yUmdKDHohatI1ehHiIoFGsY2p8Skrrof62tUSXyTmn9WrrwICaPh0rKICd+u1E19ASHNuHSu13E6vTGamXhGDhzADT36jHQPRZFMdEfjhZQeNjsEN5vZfmxg7X+HS3Or2mmcS53RSPRfJgae5PccelQy6nQdeNCLgrwFY2nny7d5E9SOGjZaed6uITjd9DeRgs3+x15pjyVjqDIyADITt6Io7Y0+rf+wrPIaU4PUcMEULxCCT+7ukDY8JoxHsm0= dave";
const RSA_4096: &str = r"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAACAQCJP9awaQocI19pR3+PvLvvsznSYNRQyE582nFiL8/lHcmRRoNwyBMxqsf0FYIiWS/PkMO6Ex/Hpd3chq3qLIm7bgkUrDwloHr79Uyt8vV8LwxbCLO8605EJljTeqnr6ttaDqmdwbYaCubWgjbS68lrkWDU3MH0QcQIN9o6Y2MqsdQGgBS/zsWN/CIQZ6azqchKdqgdHJNsuWSliDddG5oBdRkLzHUSW88jzkNGuhoaMw3TWzJC+m+oDdCTrXniFJv78ZwyRq6MuFPpQbgdZhpGow20hqXL88BhMKp1TQsJSbYWt0degZ9XqS2UeEIU/raeduy5TccN3ovryWEWOyw5jmFy0oLYAVCzJszr6L7bvzluMhDzVNeEPwTeMTHnT2ZoawV97W/EfRSNehnKVDTxQkQRuHn969okZNp9d222oBH5YwofNBMsPvfG85HzOGD9tnijtyKL2sMQ/1kVc9T4tBr6r4OPPLMv5oZQFtLmnQpGDZKRA4rY08P0n9xiouN4K2Z8pnXm5NGzyUQLE0dSwPucY8cpF2D4YhvPNSIntx3E7vBvdz2JXDz1mlxQbkNnCbMeF05YsLySwWBSDS293LD0Nf6eS5flfeR5rjkTC+4fwu3WEEY4QUJOrHRhW1g9zWR5/MruNd54Z4Bsi7tNUzbOHSSvRjBHLiOeMFXw3w== big";
const RSA_2048: &str = r"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCQV5w8swu72mCE6vkldV3fzGOgY0Lhu9yM5vp2BAFSKjGfKCNEyCh5VN4RYMI3I07/R5C/xyvs/xDf1VZczaCi574tJkm+V415Rx6COuh6n2U9VQ8yOszYERj/kPssv3yxITXXg8vD1iA0Cd8/Pwpis/fU/gs9C2GI2HOR8Q2mqVPu1iBBNZFjz76hzaFZa/ePYdTclJeWCvYZ7fYy0jhV5vKcaIu1zMCzDKHmplPOBsloUWNN744nF+JwCOEezbYnBKkdRcVSARevDpADJsd+PDtE3Ps46k1niOuWVkhQ1v81JegmHZpkzkTLBN82F2J8v9a2wWFRyQBxzq+JdhGh short";

#[test]
fn each_kind_of_ssh_key_that_signs_is_read() {
    for (text, name) in [(SSH, "ann@acme laptop"), (ECDSA, "carol"), (RSA_3072, "dave"), (RSA_4096, "big")] {
        let key = key(text);
        assert_eq!((key.name(), key.format()), (format!("the SSH key {name}"), KeyFormat::Ssh));
        assert_eq!(key.to_string(), text);
    }
}

/// A key on a security token, as `ssh-keygen -t ed25519-sk` and `-t ecdsa-sk` write it.
fn on_token(kind: &str, application: &str) -> String {
    let parts: [&[u8]; 4] = match kind {
        "sk-ssh-ed25519@openssh.com" => [kind.as_bytes(), &[], &[7; 32], application.as_bytes()],
        _ => [kind.as_bytes(), b"nistp256", &[4; 65], application.as_bytes()],
    };
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    let sized = |part: &[u8]| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat();
    format!("{kind} {} ann@token", STANDARD.encode(parts.flat_map(sized).collect::<Vec<u8>>()))
}

#[test]
fn keys_on_security_tokens_are_read_whatever_their_owner_calls_them() {
    for kind in ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"] {
        for application in ["ssh:", "ssh:acme prod", &format!("ssh:{}", "x".repeat(60))] {
            let text = on_token(kind, application);
            assert_eq!((key(&text).name().as_str(), key(&text).to_string()), ("the SSH key ann@token", text));
        }
        let why = |text: &str| SigningKey::parse(text).unwrap_err().to_string();
        for other in ["acme.example.org", "SSH:x", "https://acme.example.org"] {
            let why = why(&on_token(kind, other));
            assert!(
                why.contains("the application of a key on a security token begins with \"ssh:\""),
                "{why}"
            );
        }
        let long = why(&on_token(kind, &format!("ssh:{}", "x".repeat(61))));
        assert!(long.contains("something of it is missing"), "{long}");
        // The application ends with the key.
        let whole = on_token(kind, "ssh:abc");
        let encoded = whole.split(' ').nth(1).unwrap();
        let mut bytes = STANDARD.decode(encoded).unwrap();
        bytes.push(0);
        let more = why(&format!("{kind} {}", STANDARD.encode(&bytes)));
        assert!(more.contains("something of it is missing"), "{more}");
        bytes.truncate(bytes.len() - 2);
        let less = why(&format!("{kind} {}", STANDARD.encode(&bytes)));
        assert!(less.contains("something of it is missing"), "{less}");
    }
}

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
        ("ssh-rsa AAAA ann", "something of it is missing"),
        ("ssh-rsa", "something of it is missing"),
        ("ssh-dss AAAA ann", "of SSH keys, ssh-ed25519, ecdsa-sha2-nistp256 and ssh-rsa are taken"),
        ("ecdsa-sha2-nistp384 AAAA ann", "ecdsa-sha2-nistp256 and ssh-rsa are taken"),
        ("sk-ssh-ed25519@openssh.com AAAA", "something of it is missing"),
        ("webauthn-sk-ecdsa-sha2-nistp256@openssh.com AAAA", "neither the line of an SSH public key file"),
        (
            "sk-ssh-dss@openssh.com AAAA",
            "and sk-ssh-ed25519@openssh.com and sk-ecdsa-sha2-nistp256@openssh.com of security",
        ),
        (RSA_2048, "has 3072 to 4096 bits"),
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
