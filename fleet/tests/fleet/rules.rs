//! Mistakes in rules of fleet.toml: gates, zones and drift of single keys.

use crate::findings::{Case, Edit::Fleet};

pub(super) const CASES: &[Case] = &[
    (
        "CV114",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"prometheus\"\nurl = \"http://p:9090\"\nquery = \"up\"\n",
        ),
        "fleet.toml:6:1",
        "give at least one",
    ),
    (
        "CV114",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"prometheus\"\nurl = \"http://p:9090\"\nquery = \"up\"\nmin = 2\nmax = 1\n",
        ),
        "fleet.toml:6:1",
        "is below `min`",
    ),
    (
        "CV013",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"prometheus\"\nurl = \"http://p:9090\"\nquery = \"up\"\nmax = inf\n",
        ),
        "fleet.toml:11:7",
        "which no value can be held against",
    ),
    (
        "CV115",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"prometheus\"\nurl = \"http://p:9090\"\nquery = \"up\"\nmax = 1.5\ninconclusive_tries = 100\ntimeout = \"1m\"\n",
        ),
        "fleet.toml:6:1",
        "raise progress_deadline",
    ),
    (
        "CV115",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a b\"\nkind = \"command\"\nprogram = \"/bin/a\"\n",
        ),
        "fleet.toml:7:8",
        "cannot be the name of a gate",
    ),
    (
        "CV115",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"command\"\nprogram = \"/bin/a\"\ntries = 100\ntimeout = \"1m\"\n",
        ),
        "fleet.toml:6:1",
        "raise progress_deadline",
    ),
    (
        "CV115",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"command\"\nprogram = \"/bin/a\"\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"command\"\nprogram = \"/bin/b\"\n",
        ),
        "fleet.toml:10:1",
        "a name of its own",
    ),
    (
        "CV118",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[groups.km.drift.keys]\n\"*\" = \"ignore\"\n",
        ),
        "fleet.toml:7:1",
        "every key fits it",
    ),
    (
        "CV118",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[groups.km.drift.keys]\nserver = \"ignore\"\n",
        ),
        "fleet.toml:7:1",
        "covers server.offset",
    ),
    (
        "CV010",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[groups.km.drift.keys]\ncache.size = \"keep\"\n",
        ),
        "fleet.toml:7:7",
        "the rule for cache.size must be one of the words",
    ),
    (
        "CV117",
        Fleet("host = \"h1\"\n", "host = \"h1\"\nzone = \"dc1\"\n"),
        "fleet.toml:17:1",
        "in no zone although others are",
    ),
    (
        "CV117",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[groups.km.rollout]\nmax_unavailable_per_zone = 1\n",
        ),
        "fleet.toml:3:1",
        "no node is in a zone",
    ),
    (
        "CV007",
        Fleet("host = \"h1\"\n", "host = \"h1\"\nzone = \"DC 1\"\n"),
        "fleet.toml:14:8",
        "lower-case letters",
    ),
    (
        "CV008",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"token\"\ntoken_url = \"https://km/t\"\nclient_id = \"a\"\nurl = \"https://gw/a\"\n",
        ),
        "fleet.toml:6:1",
        "client_secret",
    ),
    (
        "CV307",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"token\"\ntoken_url = \"https://km/t\"\nclient_id = \"a\"\nurl = \"https://gw/a\"\nclient_secret = \"clear\"\n",
        ),
        "fleet.toml:12:1",
        "names a secret",
    ),
    (
        "CV307",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"http\"\nurl = \"https://gw/a\"\nauthorization = \"{{ secret('lb') }}\"\n",
        ),
        "fleet.toml:10:17",
        "convoy secret set lb",
    ),
    (
        "CV010",
        Fleet(
            "layers = [\"common\"]\n",
            "layers = [\"common\"]\n[[groups.km.rollout.gates]]\nname = \"a\"\nkind = \"haproxy\"\n",
        ),
        "fleet.toml:8:8",
        "http, token, prometheus, command",
    ),
];
