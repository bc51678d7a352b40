//! Get Log Page (section 5.16): which part of which page, and the events that a page answers.

mod pages;

use std::rc::Rc;

use super::{AdminQueue, answer_events, capabilities};
use crate::NvmeStatus;
use crate::nvme::spec::log::GetLogPage;
use crate::nvmf::request::Request;

/// Executes a Get Log Page.
pub(super) fn get_log_page(admin: &Rc<AdminQueue>, request: Request) {
    let wanted = GetLogPage::of(request.sqe());
    let part = check(admin, &wanted, request.data_len())
        .and_then(|()| pages::page(admin, &wanted, request.sqe().nsid.get()))
        .and_then(|page| part(&page, &wanted));
    let data = match part {
        Ok(data) => data,
        Err(status) => return admin.refuse(request, status),
    };
    request.complete_bytes(0, &data);
    if !wanted.rae {
        let answers = admin.events.borrow_mut().page_read(wanted.lid);
        answer_events(answers);
    }
}

/// Whether there is such a page, and room for what is asked of it.
fn check(admin: &AdminQueue, wanted: &GetLogPage, room: u32) -> Result<(), NvmeStatus> {
    if !capabilities::log_pages(admin.controller.subsystem()).contains(&wanted.lid) {
        return Err(NvmeStatus::INVALID_LOG_PAGE);
    }
    if wanted.offset_is_index {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    if wanted.bytes > room.into() {
        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    Ok(())
}

/// The part of a page from its offset on; zero bytes follow behind the page's end.
fn part(page: &[u8], wanted: &GetLogPage) -> Result<Vec<u8>, NvmeStatus> {
    if !wanted.offset.is_multiple_of(4) {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let rest = usize::try_from(wanted.offset).ok().and_then(|offset| page.get(offset..));
    let rest = rest.ok_or(NvmeStatus::INVALID_FIELD)?;
    let len = usize::try_from(wanted.bytes).map_err(|_| NvmeStatus::INVALID_FIELD)?;
    let mut part = rest[..len.min(rest.len())].to_vec();
    part.resize(len, 0);
    Ok(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(bytes: u64, offset: u64) -> GetLogPage {
        GetLogPage { offset, ..GetLogPage::new(2, bytes) }
    }

    #[test]
    fn the_ends_of_a_page() {
        let page: Vec<u8> = (0..16).collect();
        assert_eq!(part(&page, &wanted(8, 8)), Ok((8..16).collect()));
        assert_eq!(part(&page, &wanted(8, 12)), Ok(vec![12, 13, 14, 15, 0, 0, 0, 0]));
        assert_eq!(part(&page, &wanted(4, 16)), Ok(vec![0; 4]));
        assert_eq!(part(&page, &wanted(4, 20)), Err(NvmeStatus::INVALID_FIELD));
        assert_eq!(part(&page, &wanted(4, 2)), Err(NvmeStatus::INVALID_FIELD));
        assert_eq!(part(&page, &wanted(4, u64::MAX - 3)), Err(NvmeStatus::INVALID_FIELD));
    }

    proptest! {
        #[test]
        fn a_part_is_the_page_shifted_and_padded(
            page in prop::collection::vec(any::<u8>(), 0..100),
            dwords in 1u64..40,
            offset in prop_oneof![0u64..120, any::<u64>()],
        ) {
            let part = part(&page, &wanted(dwords * 4, offset));
            if offset % 4 != 0 || offset > page.len() as u64 {
                prop_assert_eq!(part, Err(NvmeStatus::INVALID_FIELD));
            } else {
                let part = part.unwrap();
                prop_assert_eq!(part.len() as u64, dwords * 4);
                for (index, &byte) in part.iter().enumerate() {
                    let at = usize::try_from(offset).unwrap() + index;
                    prop_assert_eq!(byte, page.get(at).copied().unwrap_or(0));
                }
            }
        }
    }
}
