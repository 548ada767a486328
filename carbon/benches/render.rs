//! How long a full render of APIM 4.5 (78 templates) takes, against hashing the same bytes in the same run.
//!
//! Run with `cargo bench -p convoy-carbon`. Goals on one core: pack load below 100 ms, render below 15 ms. The ratio to
//! MD5 says more than the milliseconds: it does not depend on the machine.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads files and a clock; the library does neither"
)]

#[path = "../tests/carbon/common.rs"]
mod common;
mod timing;

use std::hint::black_box;
use std::time::Duration;

use carbon::known::KnownKeys;
use carbon::pack::RESOURCES;
use carbon::{Inputs, Pack, render};
use md5::{Digest, Md5};
use timing::median;

fn main() {
    let Some(shared) = common::shared() else { return };
    let home = shared.join("packs/apim-4.5.0");
    let mut resources = common::files(&home);
    let toml = std::fs::read_to_string(home.join("repository/conf/deployment.toml")).unwrap();
    resources.retain(|(path, _)| path.starts_with(RESOURCES) || path == "bin/version.txt");
    let load = median(9, || {
        black_box(Pack::load(resources.clone().into_iter()).unwrap());
    });
    let pack = common::pack(&shared, "apim-4.5.0");
    let inputs = Inputs::default();
    let rendered = render(&pack, &toml, &inputs).unwrap();
    let bytes: usize = rendered.files.values().map(String::len).sum();
    let full = median(51, || {
        black_box(render(&pack, &toml, &inputs).unwrap());
    });
    let resolve = median(51, || {
        black_box(carbon::resolve(&pack, &toml, &inputs).unwrap());
    });
    let known = median(9, || {
        black_box(KnownKeys::of(&pack));
    });
    let baseline = median(51, || {
        for text in rendered.files.values() {
            black_box(Md5::digest(text.as_bytes()));
        }
    });
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("pack load       {:8.2} ms  (goal 100)", ms(load));
    println!("known keys      {:8.2} ms", ms(known));
    println!("values only     {:8.2} ms", ms(resolve));
    println!("full render     {:8.2} ms  (goal 15), {} files, {bytes} bytes", ms(full), rendered.files.len());
    println!("md5 of the same {:8.2} ms  render is {:.1} times that", ms(baseline), ms(full) / ms(baseline));
}
