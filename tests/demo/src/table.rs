//! The hops, as they are printed.

use comfy_table::{LineStyle, Table, TableStyle};
use peermem::proto::{Initiator, Lease};

/// One hop and what came of it.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) what: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) bytes: usize,
    pub(crate) wrong: usize,
}

impl Hop {
    pub(crate) fn count(&mut self, bytes: usize, wrong: usize) {
        self.bytes += bytes;
        self.wrong += wrong;
    }
}

/// A line below the header and no others.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle {
    left: None,
    fill: Some('─'),
    junction: Some('─'),
    right: None,
});

/// The route by which `initiator` reaches what was leased.
pub(crate) fn route(lease: &Lease, initiator: &Initiator) -> String {
    let path = lease.paths.iter().find(|path| path.initiator == *initiator);
    path.map_or_else(|| "not mapped for it".to_owned(), |path| path.route.to_string())
}

pub(crate) fn print(hops: &[Hop]) {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["hop", "operation", "from", "to", "method", "route", "bytes", "verified"]);
    for (number, hop) in (1_u8..).zip(hops) {
        let verified = match hop.wrong {
            0 => "every byte".to_owned(),
            wrong => format!("{wrong} bytes WRONG"),
        };
        let (number, bytes) = (number.to_string(), hop.bytes.to_string());
        table.add_row([&number, hop.what, hop.from, hop.to, &hop.method, &hop.route, &bytes, &verified]);
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}
