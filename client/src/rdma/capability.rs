//! One combination of the self-test's table: what was tried, what came of it, and whether endpoints refuse it.

use peermem_proto::Method;
use serde::Serialize;

use super::{loopback::Verb, quirks::Quirks};
use crate::verbs::Mtu;

/// Where transfers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// At page boundaries.
    Page,
    /// At multiples of 64 bytes inside a page.
    CacheLine,
    /// At multiples of 8 bytes that are none of 64.
    Word,
    /// At odd addresses.
    Byte,
}

impl Alignment {
    /// Every class, the strictest first.
    pub const ALL: [Self; 4] = [Self::Page, Self::CacheLine, Self::Word, Self::Byte];

    /// Bytes into a page that stand for the class.
    pub(super) const fn offset(self) -> usize {
        match self {
            Self::Page => 0,
            Self::CacheLine => 320,
            Self::Word => 104,
            Self::Byte => 333,
        }
    }
}

/// A combination that was tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// How the bytes were moved.
    pub verb: Verb,
    /// How the memory was registered at the end that posted the work request.
    pub here: Method,
    /// How it was registered at the other end.
    pub there: Method,
    /// Where the transfers started, at one end or both.
    pub alignment: Alignment,
    /// The path MTU.
    pub mtu: Mtu,
    /// What went wrong; `None` when every byte was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defect: Option<Defect>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Defect {
    /// The first transfer that went wrong.
    pub finding: String,
    /// Whether endpoints of this library refuse such transfers on this device.
    pub refused: bool,
}

impl Cell {
    /// The cell with what came of it. `None` for `quirks` stands for a device that endpoints refuse altogether.
    pub(super) fn with(self, finding: Option<String>, quirks: Option<&Quirks>) -> Self {
        let refused = quirks.is_none_or(|quirks| self.is_refused(quirks));
        Self { defect: finding.map(|finding| Defect { finding, refused }), ..self }
    }

    fn is_refused(&self, quirks: &Quirks) -> bool {
        [self.here, self.there].into_iter().any(|method| match quirks.constraint(method) {
            Err(_) => true,
            Ok(None) => false,
            Ok(Some(pages)) => pages.check("the", self.alignment.offset() as u64, self.mtu).is_err(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdma::OnDemand;

    fn cell(here: Method, alignment: Alignment, mtu: Mtu) -> Cell {
        Cell { verb: Verb::Write, here, there: Method::Pinned, alignment, mtu, defect: None }
    }

    fn refused(cell: Cell, on_demand: OnDemand) -> bool {
        let quirks = Quirks { on_demand, dmabuf: true };
        cell.with(Some("wrong".into()), Some(&quirks)).defect.unwrap().refused
    }

    #[test]
    fn what_endpoints_refuse_is_known_of_each_cell() {
        let rxe = OnDemand::PageAlignedOnly { min_path_mtu: Mtu::Bytes4096 };
        let on_demand = |alignment, mtu| cell(Method::OnDemand, alignment, mtu);
        assert!(refused(on_demand(Alignment::Byte, Mtu::Bytes4096), rxe.clone()));
        assert!(refused(on_demand(Alignment::Page, Mtu::Bytes1024), rxe.clone()));
        assert!(!refused(on_demand(Alignment::Page, Mtu::Bytes4096), rxe.clone()), "that one would be used");
        assert!(
            !refused(cell(Method::Pinned, Alignment::Byte, Mtu::Bytes256), rxe),
            "so would pinned memory"
        );
        assert!(refused(on_demand(Alignment::Page, Mtu::Bytes4096), OnDemand::Unsupported));
    }

    #[test]
    fn offsets_are_in_their_class_and_no_stricter_one() {
        for (alignment, multiple, stricter) in
            [(Alignment::CacheLine, 64, 4096), (Alignment::Word, 8, 64), (Alignment::Byte, 1, 2)]
        {
            let offset = alignment.offset();
            assert!(offset.is_multiple_of(multiple) && !offset.is_multiple_of(stricter), "{alignment:?}");
        }
    }
}
