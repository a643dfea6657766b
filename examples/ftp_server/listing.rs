//! Directories as text: in the way of `ls -l` for people (`LIST`), and as facts for programs (RFC 3659, `MLSD`). All times are UTC.

use super::command::shown;
use super::root::{Entry, Facts, Kind};

/// Which facts a client wants to see of each file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted([bool; FACTS.len()]);

const FACTS: [&str; 4] = ["type", "size", "modify", "perm"];

impl Wanted {
    pub(crate) const ALL: Wanted = Wanted([true; FACTS.len()]);

    /// Reads `type;size;`. What is not known is left out.
    pub(crate) fn parse(names: &str) -> Wanted {
        Wanted(FACTS.map(|fact| names.split(';').any(|name| name.trim().eq_ignore_ascii_case(fact))))
    }

    /// As `OPTS` answers, and with a star for what is wanted as `FEAT` does.
    pub(crate) fn show(self, with_rest: bool) -> String {
        let wanted = FACTS.iter().zip(self.0);
        wanted
            .map(|(fact, wanted)| match (wanted, with_rest) {
                (true, true) => format!("{fact}*;"),
                (true, false) | (false, true) => format!("{fact};"),
                (false, false) => String::new(),
            })
            .filter(|shown| with_rest || !shown.is_empty())
            .collect()
    }
}

/// A line as `ls -l` has them.
pub(crate) fn long_line(entry: &Entry, now: i64) -> Vec<u8> {
    let Facts { kind, size, modified, mode, links } = entry.facts;
    let letter = match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Other => '?',
    };
    let bits: String = "rwxrwxrwx"
        .chars()
        .enumerate()
        .map(|(index, bit)| if mode & (0o400 >> index) != 0 { bit } else { '-' })
        .collect();
    let Moment { year, month, day, hour, minute, .. } = Moment::of(modified);
    let month = MONTHS[month as usize - 1];
    // The time of day for what is less than half a year old, else the year.
    let last = if (0..=15_552_000).contains(&(now - modified)) {
        format!("{hour:02}:{minute:02}")
    } else {
        format!("{year:5}")
    };
    let mut line =
        format!("{letter}{bits} {links:>3} ftp      ftp      {size:>12} {month} {day:2} {last} ").into_bytes();
    line.extend(shown(&entry.name));
    line
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A line of facts.
pub(crate) fn fact_line(entry: &Entry, wanted: Wanted, writable: bool) -> Vec<u8> {
    let facts = &entry.facts;
    let is_directory = facts.kind == Kind::Directory;
    let mut line = Vec::new();
    for (fact, wanted) in FACTS.into_iter().zip(wanted.0) {
        let value = match fact {
            _ if !wanted => continue,
            "type" => match facts.kind {
                Kind::File => "file".into(),
                Kind::Directory => "dir".into(),
                Kind::Other => "OS.unix=other".into(),
            },
            "size" if is_directory => continue,
            "size" => facts.size.to_string(),
            "modify" => time_stamp(facts.modified),
            _ => match (is_directory, writable) {
                (true, true) => "elcdfmp".to_owned(),
                (true, false) => "el".into(),
                (false, true) => "radfw".into(),
                (false, false) => "r".into(),
            },
        };
        line.extend_from_slice(format!("{fact}={value};").as_bytes());
    }
    line.push(b' ');
    line.extend(shown(&entry.name));
    line
}

/// `YYYYMMDDHHMMSS`.
pub(crate) fn time_stamp(seconds: i64) -> String {
    let Moment { year, month, day, hour, minute, second } = Moment::of(seconds);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

struct Moment {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    /// The Gregorian calendar counted in eras of 400 years, of 146,097 days each, that begin with a March.
    fn of(seconds: i64) -> Moment {
        let (days, in_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let days = days + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Moment {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
        }
    }
}
