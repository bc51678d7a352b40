//! A power cut of a pool: the load that runs when power fails, and what may be left of it.
//!
//! * `pool-cut image FILE` makes an empty drive.
//! * `pool-cut load DEVICE SECONDS SEED` makes a pool on such a drive and changes it, and notes behind
//!   the pool each round that was acknowledged.
//! * `pool-cut verify IMAGE…` looks whether a drive has everything that it should have.
//! * `pool-cut states LOG COUNT SEED` builds so many states from the log of such a drive, and looks
//!   whether each is one that a loss of power may leave; `pool-cut states LOG --state FLUSH:SEED` looks
//!   at one of them.
//!
//! A build with the feature `pool-mutants` takes `--mutant NAME` as its first words: what leaves out a
//! step of the pool has to be noticed.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use io_engine_test::power_cut::image::Image;
use io_engine_test::power_cut::load::{self, Until};
use io_engine_test::power_cut::log::Log;
use io_engine_test::power_cut::states::{Recording, Totals, verify_image};
use io_engine_test::power_cut::{BLOCK_BYTES, DRIVE_BYTES};
use spdk_rs::drivers::uring::{self, FileOptions, UringOptions};
use spdk_rs::env::Memory;
use spdk_rs::env::cpu::CoreId;
use spdk_rs::reactor::{LocalReactor, ReactorConfig};

const USAGE: &str = "usage: pool-cut image FILE | load DEVICE SECONDS SEED | verify IMAGE… | \
                     states LOG COUNT SEED | states LOG --state FLUSH:SEED";
/// States between two lines that tell how far it is.
const PROGRESS_STATES: u64 = 250;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool-cut: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = match words[..] {
        ["--mutant", name, ..] => {
            set_mutant(name)?;
            &words[2..]
        }
        _ => &words,
    };
    match *words {
        ["image", path] => {
            let file = File::create(path).with_context(|| path.to_owned())?;
            Ok(file.set_len(DRIVE_BYTES)?)
        }
        ["load", device, seconds, seed] => {
            run_load(device, Duration::from_secs_f64(seconds.parse()?), seed.parse()?)
        }
        ["verify", ref images @ ..] if !images.is_empty() => {
            images.iter().try_for_each(|image| verify(image).with_context(|| (*image).to_owned()))
        }
        ["states", log, "--state", name] => one_state(log, name),
        ["states", log, count, seed] => states(log, count.parse()?, seed.parse()?),
        _ => bail!(USAGE),
    }
}

#[cfg(feature = "pool-mutants")]
fn set_mutant(name: &str) -> Result<()> {
    use io_engine::pool::mutant;
    let found = mutant::ALL.iter().find(|mutant| mutant.name() == name);
    mutant::set(Some(*found.with_context(|| format!("mutant '{name}': {:?}", mutant::ALL))?));
    Ok(())
}

#[cfg(not(feature = "pool-mutants"))]
fn set_mutant(name: &str) -> Result<()> {
    bail!(
        "mutant '{name}': this build has no mutants; there are some with `--features pool-mutants`"
    )
}

fn run_load(device: &str, duration: Duration, seed: u64) -> Result<()> {
    let bdev = uring::create(&UringOptions::new(FileOptions::new("drive", device)))?;
    let config = ReactorConfig::new(CoreId(0));
    let reactor = LocalReactor::new(config, Memory::ordinary(64 << 20)?)?;
    let done = reactor.block_on(load::run(bdev, seed, Until::Elapsed(duration)))?;
    println!(
        "{} rounds of seed {seed}: {} blocks, {} checkpoints, {} flushes",
        done.rounds, done.blocks, done.checkpoints, done.flushes
    );
    Ok(())
}

fn verify(path: &str) -> Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size == DRIVE_BYTES, "it has {size} bytes instead of {DRIVE_BYTES}");
    let mut image = Image::new(DRIVE_BYTES);
    let mut block = [0; BLOCK_BYTES];
    for at in (0..DRIVE_BYTES).step_by(BLOCK_BYTES) {
        file.read_exact_at(&mut block, at)?;
        if block.iter().any(|byte| *byte != 0) {
            image.write(at, &block);
        }
    }
    let (rounds, seen) = verify_image(image)?;
    println!("{path}: {rounds} rounds are there, {} blocks", seen.blocks);
    Ok(())
}

fn recording(log: &str) -> Result<Recording> {
    let recording = Recording::new(Log::open(Path::new(log))?)?;
    let (flushes, entries, rounds) = recording.sizes();
    println!("{log}: {entries} entries, {flushes} flushes, {rounds} rounds");
    Ok(recording)
}

fn print(totals: &Totals) {
    let Totals { states, twice, flushes, rounds, kept, lost, seen } = totals;
    println!(
        "{states} states, {twice} of them cut twice, after {flushes} flushes in {rounds} rounds: {kept} sectors kept, {lost} lost; \
         {} transactions replayed in {} states; of running rounds {} writes there, {} absent, \
         {} changes there, {} absent; {} blocks compared",
        seen.replayed,
        seen.with_replay,
        seen.present,
        seen.absent,
        seen.changed,
        seen.unchanged,
        seen.blocks,
    );
}

fn states(log: &str, count: usize, seed: u64) -> Result<()> {
    let recording = recording(log)?;
    let cuts = recording.choose(count, seed)?;
    let again = || format!("seed {seed}, again with `pool-cut states {log} --state FLUSH:SEED`");
    let totals = recording
        .verify(&cuts, |totals| {
            if totals.states.is_multiple_of(PROGRESS_STATES) {
                println!("{} of {count} states", totals.states);
            }
        })
        .with_context(again)?;
    print(&totals);
    Ok(())
}

fn one_state(log: &str, name: &str) -> Result<()> {
    let (flush, seed) =
        name.split_once(':').with_context(|| format!("state '{name}': FLUSH:SEED"))?;
    let recording = recording(log)?;
    let cut = recording.cut(flush.parse()?, seed.parse()?)?;
    print(&recording.verify(&[cut], |_| {})?);
    Ok(())
}
