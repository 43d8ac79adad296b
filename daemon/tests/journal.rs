//! The lease journal on a real file system: what is refused, what is set aside, what survives a kill.
#![allow(clippy::unwrap_used)]

#[path = "support/role.rs"]
mod role;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use peermemd::journal::{BootId, Journal, JournalFault, OpenError, Opened, Unusable, WriteError};
use role::{place_of_role, play, role};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// About as long as a lease's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    number: u64,
    text: String,
}

fn record(number: u64) -> Record {
    Record { number, text: "p2pmem-0000:03:00.0, 4194304 bytes for rdma:mlx5_0 and 0000:04:00.0; ".repeat(3) }
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(record).collect()
}

/// Waits for a lock that goes at once: what another test forks has copies of every descriptor until it executes its program.
fn open(path: &Path) -> Opened<Record> {
    open_in(path, "this boot")
}

fn open_in(path: &Path, boot: &str) -> Opened<Record> {
    for _ in 0..1000 {
        match Journal::open(path, BootId::new(boot)) {
            Err(OpenError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays in use", path.display())
}

fn try_open(path: &Path) -> Result<Opened<Record>, OpenError> {
    Journal::open(path, BootId::new("this boot"))
}

/// A folder, and a path in it where a journal may be.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leases.journal");
    (folder, path)
}

/// The names of the files beside the journal and its lock.
fn set_aside_at(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter_map(|name| Some(name.strip_prefix("leases.journal.")?.to_owned())).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let (_folder, path) = place();
    let Opened { mut journal, records: none, set_aside } = open(&path);
    assert!(none.is_empty() && set_aside.is_none());
    let instance = journal.instance();
    journal.append(&records(0..3)).unwrap();
    journal.append(&[]).unwrap();
    journal.append(&records(3..4)).unwrap();
    assert_eq!(journal.appended_bytes(), fs::metadata(&path).unwrap().len());
    drop(journal);

    let Opened { mut journal, records: found, set_aside } = open(&path);
    assert_eq!(found, records(0..4));
    assert!(set_aside.is_none());
    assert_eq!(journal.instance(), instance);
    journal.rewrite(&found[1..]).unwrap();
    assert_eq!(journal.appended_bytes(), 0);
    journal.append(&records(4..5)).unwrap();
    drop(journal);

    let again = open(&path);
    assert_eq!(again.records, records(1..5));
    assert_eq!(again.journal.instance(), instance);
    for file in ["leases.journal", "leases.journal.lock"] {
        let mode = fs::metadata(path.with_file_name(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let (_folder, path) = place();
    let mut first = open(&path).journal;
    assert!(matches!(try_open(&path), Err(OpenError::InUse { path: named }) if named == path));
    first.rewrite(records(0..2)).unwrap();
    assert!(matches!(try_open(&path), Err(OpenError::InUse { .. })));
    first.append(&records(2..3)).unwrap();
    drop(first);
    assert_eq!(open(&path).records, records(0..3));
}

#[test]
fn an_earlier_boot_is_forgotten_without_a_word() {
    let (_folder, path) = place();
    let mut journal = open(&path).journal;
    journal.append(&records(0..3)).unwrap();
    let instance = journal.instance();
    drop(journal);
    let next = open_in(&path, "the next boot");
    assert!(next.records.is_empty() && next.set_aside.is_none());
    assert_ne!(next.journal.instance(), instance);
    assert!(set_aside_at(&path).is_empty());
}

#[test]
fn this_boot_has_a_name() {
    assert_eq!(BootId::current().unwrap(), BootId::current().unwrap());
}

#[test]
fn torn_ends_are_cut_off_and_kept() {
    let (_folder, path) = place();
    open(&path).journal.append(&records(0..2)).unwrap();
    let whole = fs::read(&path).unwrap();
    for (round, torn) in ["0123", "deadbeef {}\n"].into_iter().enumerate() {
        File::options().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        let Opened { mut journal, records: found, set_aside } = open(&path);
        assert_eq!(found, records(0..2));
        let set_aside = set_aside.unwrap();
        assert!(matches!(
            set_aside.fault,
            JournalFault::Torn { offset, bytes, records: 2 }
                if offset == whole.len() as u64 && bytes == torn.len()
        ));
        assert!(set_aside.to_string().contains("the 2 records before it do"), "{set_aside}");
        let kept = path.with_file_name(format!("leases.journal.torn-{}", round + 1));
        assert_eq!(set_aside.kept.unwrap(), kept);
        assert_eq!(fs::read_to_string(kept).unwrap(), torn);
        assert_eq!(fs::read(&path).unwrap(), whole);
        // What follows takes the torn line's place.
        journal.append(&records(2..3)).unwrap();
        journal.rewrite(records(0..2)).unwrap();
    }
}

#[test]
fn what_is_no_journal_is_moved_away_and_the_daemon_starts() {
    let (_folder, path) = place();
    let victim = path.with_file_name("victim");
    fs::write(&victim, "untouched").unwrap();
    type Put = fn(&Path, &Path);
    let in_place: [(&str, Put); 4] = [
        ("its first line isn't that of a lease journal", |path, _| fs::write(path, "[section]\n").unwrap()),
        ("it isn't a regular file", |path, victim| symlink(victim, path).unwrap()),
        ("it isn't a regular file", |path, _| fs::create_dir(path).unwrap()),
        ("it has 1073741825 bytes", |path, _| {
            File::create(path).unwrap().set_len((1 << 30) + 1).unwrap();
        }),
    ];
    for (round, (why, put)) in in_place.into_iter().enumerate() {
        put(&path, &victim);
        let Opened { mut journal, records: found, set_aside } = open(&path);
        assert!(found.is_empty());
        let set_aside = set_aside.unwrap();
        assert!(set_aside.to_string().contains(why), "{set_aside}");
        let kept = path.with_file_name(format!("leases.journal.set-aside-{}", round + 1));
        assert_eq!(set_aside.kept.unwrap(), kept);
        assert!(fs::symlink_metadata(kept).is_ok());
        journal.append(&records(0..1)).unwrap();
        drop(journal);
        assert_eq!(open(&path).records, records(0..1));
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

#[test]
fn damage_in_the_middle_costs_all_and_says_where() {
    let (_folder, path) = place();
    open(&path).journal.append(&records(0..3)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let opened = open(&path);
    assert!(opened.records.is_empty());
    let set_aside = opened.set_aside.unwrap();
    let JournalFault::Unusable(Unusable::Damaged { line, offset }) = set_aside.fault else {
        panic!("{set_aside}")
    };
    assert_eq!((line, offset), (2, second as u64));
    assert_eq!(fs::read(set_aside.kept.unwrap()).unwrap(), bytes);
}

#[test]
fn only_so_many_are_kept() {
    let (_folder, path) = place();
    for round in 1..=17 {
        fs::write(&path, format!("garbage {round}")).unwrap();
        let set_aside = open(&path).set_aside.unwrap();
        assert_eq!(set_aside.kept.is_ok(), round <= 16, "{set_aside}");
    }
    assert_eq!(set_aside_at(&path).len(), 16);
    assert_eq!(fs::read_to_string(path.with_file_name("leases.journal.set-aside-16")).unwrap(), "garbage 16");
}

#[test]
fn rewriting_is_due_when_most_is_history() {
    let (_folder, path) = place();
    let mut journal = open(&path).journal;
    let batch = records(0..1000);
    journal.append(&batch).unwrap();
    assert!(!journal.is_due_for_rewrite(), "it is small");
    let line = journal.appended_bytes() / 1000;
    let mut written = 1000;
    while !journal.is_due_for_rewrite() {
        journal.append(&batch).unwrap();
        written += 1000;
    }
    assert!(written * line > 1 << 20);
    // With as much in use, as much again may be appended.
    let in_use = records(0..2 * written);
    journal.rewrite(&in_use).unwrap();
    while !journal.is_due_for_rewrite() {
        journal.append(&batch).unwrap();
    }
    assert!(journal.appended_bytes() >= in_use.len() as u64 * line);
}

#[test]
fn a_record_that_is_too_long_leaves_the_batch_out() {
    let (_folder, path) = place();
    let mut journal = open(&path).journal;
    let long = Record { number: 1, text: "x".repeat(64 << 10) };
    assert!(matches!(
        journal.append(&[record(0), long.clone()]),
        Err(WriteError::RecordTooLong { bytes }) if bytes > 64 << 10
    ));
    assert!(matches!(journal.rewrite([&long]), Err(WriteError::RecordTooLong { .. })));
    journal.append(&records(0..1)).unwrap();
    drop(journal);
    assert_eq!(open(&path).records, records(0..1));
    assert!(set_aside_at(&path).is_empty(), "nothing half done lies about");
}

#[test]
fn a_full_file_system_refuses_and_forgets_nothing() {
    let (_folder, path) = place();
    // A file that grows over its limit then is an error, and no signal.
    play(&mut role("role_of_one_without_space", &path, r#"trap "" XFSZ"#));
    let opened = open(&path);
    assert!(opened.set_aside.is_none());
    assert_eq!(opened.records, records(0..21));
}

#[test]
#[ignore = "the writer in another test"]
fn role_of_one_without_space() {
    let path = place_of_role();
    let limit = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    let mut journal = open(&path).journal;
    journal.append(&records(0..20)).unwrap();
    let before = fs::read(&path).unwrap();
    // Room for a part of the next batch.
    limit(Some(before.len() as u64 + 500));
    for _ in 0..2 {
        assert!(matches!(journal.append(&records(20..30)), Err(WriteError::Io(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    assert!(matches!(journal.rewrite(records(0..30)), Err(WriteError::Io(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(set_aside_at(&path).is_empty());
    limit(None);
    journal.append(&records(20..21)).unwrap();
}

#[test]
fn whoever_is_killed_leaves_all_that_was_appended() {
    let (_folder, path) = place();
    for acknowledged in [3, 31, 117, 250] {
        let mut writer =
            role("role_of_one_who_is_killed", &path, ":").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let numbers = lines.filter_map(|line| line.strip_prefix("appended ")?.parse::<u64>().ok());
        assert!(numbers.into_iter().any(|number| number >= acknowledged));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let found = open(&path).records;
        assert!(found.len() as u64 > acknowledged, "{} of {acknowledged}", found.len());
        assert_eq!(found, records(0..found.len() as u64));
    }
}

#[test]
#[ignore = "the writer in another test"]
fn role_of_one_who_is_killed() {
    let Opened { mut journal, records: mut all, .. } = open(&place_of_role());
    println!();
    for number in all.len() as u64.. {
        all.push(record(number));
        journal.append(&all[all.len() - 1..]).unwrap();
        if number % 7 == 0 {
            journal.rewrite(&all).unwrap();
        }
        println!("appended {number}");
    }
}

/// `cargo test --release -p peermemd --test journal -- --ignored --nocapture what_it_costs`
#[test]
#[ignore = "a measurement, worth something in an optimised build only"]
fn what_it_costs() {
    const COUNT: u64 = 100_000;
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("leases.journal");
    let mut journal = open(&path).journal;
    let all = records(0..COUNT);
    let began = Instant::now();
    for record in all.chunks(1) {
        journal.append(record).unwrap();
    }
    println!("append: {:?} a record", began.elapsed() / u32::try_from(COUNT).unwrap());
    let began = Instant::now();
    journal.rewrite(&all).unwrap();
    println!("rewrite: {:?} for {COUNT} records", began.elapsed());
    drop(journal);
    let began = Instant::now();
    assert_eq!(open(&path).records.len(), all.len());
    println!("open: {:?} for {COUNT} records, {} bytes", began.elapsed(), fs::metadata(&path).unwrap().len());
}
