//! Which driver carries a shard.

use std::io;
use std::rc::Rc;

use super::driver::Driver;
use super::epoll::Epoll;
use super::pool::{Pool, Shape};
use super::uring::{Uring, Wish};

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// io_uring, or epoll where that cannot be had.
    #[default]
    Best,
    /// io_uring or nothing.
    IoUring,
    Epoll,
}

/// What a reactor is made with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) choice: Choice,
    pub(crate) wish: Wish,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::Best,
            wish: Wish {
                entries: 1024,
                pool: Shape {
                    buffers: 1024,
                    size: 4096,
                },
                incremental: false,
                napi_us: 0,
            },
        }
    }
}

pub(super) fn start(settings: &Settings) -> io::Result<(Box<dyn Driver>, Rc<Pool>)> {
    let epoll = |why: &str| {
        let (driver, pool) = Epoll::new(settings.wish.pool, why)?;
        Ok((Box::new(driver) as Box<dyn Driver>, pool))
    };
    if settings.choice == Choice::Epoll {
        return epoll("the epoll driver was asked for");
    }
    match Uring::new(settings.wish) {
        Ok((driver, pool)) => Ok((Box::new(driver), pool)),
        Err(why) if settings.choice == Choice::Best => epoll(&why.to_string()),
        Err(why) => Err(io::Error::new(io::ErrorKind::Unsupported, why)),
    }
}
