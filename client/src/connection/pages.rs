//! Whole lists out of pages.

use peermem_proto::{
    Lease, Region,
    call::{Call, LeasePage, ListLeases, ListRegions, RegionPage},
};

use super::Trouble;

/// A call that answers with one page of a list.
pub(super) trait Paged: Call + Default {
    /// What is listed.
    type Item;

    /// The page, and whether more follow it.
    fn open(page: Self::Reply) -> (Vec<Self::Item>, bool);

    /// Asks for what follows `item`.
    fn after(item: &Self::Item) -> Self;

    /// Whether `a` comes before `b` in the list's order.
    fn in_order(a: &Self::Item, b: &Self::Item) -> bool;
}

impl Paged for ListRegions {
    type Item = Region;

    fn open(page: RegionPage) -> (Vec<Region>, bool) {
        (page.regions, page.more)
    }

    fn after(item: &Region) -> Self {
        Self { after: Some(item.name.clone()) }
    }

    fn in_order(a: &Region, b: &Region) -> bool {
        a.name < b.name
    }
}

impl Paged for ListLeases {
    type Item = Lease;

    fn open(page: LeasePage) -> (Vec<Lease>, bool) {
        (page.leases, page.more)
    }

    fn after(item: &Lease) -> Self {
        Self { after: Some(item.id) }
    }

    fn in_order(a: &Lease, b: &Lease) -> bool {
        a.id < b.id
    }
}

/// A list that is being put together.
#[derive(Debug)]
pub(super) struct Pages<P: Paged> {
    items: Vec<P::Item>,
    more: bool,
}

impl<P: Paged> Pages<P> {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), more: true }
    }

    /// What to ask next, or `None` when the list is whole.
    pub(super) fn next_call(&self) -> Option<P> {
        self.more.then(|| self.items.last().map(P::after).unwrap_or_default())
    }

    /// Adds a page.
    ///
    /// # Errors
    /// [`Trouble::Pages`] when it doesn't lead on: a list that repeats itself would never end.
    pub(super) fn add(&mut self, page: P::Reply) -> Result<(), Trouble> {
        let (items, more) = P::open(page);
        if more && items.is_empty() {
            return Err(Trouble::Pages);
        }
        for item in items {
            if self.items.last().is_some_and(|last| !P::in_order(last, &item)) {
                return Err(Trouble::Pages);
            }
            self.items.push(item);
        }
        self.more = more;
        Ok(())
    }

    /// The list.
    pub(super) fn into_items(self) -> Vec<P::Item> {
        self.items
    }
}
