//! How a function is put in front of libc's.

/// Defines functions that the program gets instead of libc's, each under its name and those that
/// `also` lists.
///
/// The ABI is `C-unwind`: a thread that is cancelled in the original call is unwound through ours
/// (pthread_cancel(3)), which therefore keeps nothing that needs dropping across such a call.
///
/// Functions after `hot;` lie together, in few pages, apart from all others: a program that sleeps
/// between two calls finds them cold each time.
macro_rules! export {
    (hot; $($(#[$meta:meta])* $(also [$($alias:ident)*])? fn $name:ident $args:tt $(-> $ret:ty)? $body:block)*) => {
        $crate::export::export! {
            $(
                #[unsafe(link_section = ".text.hot")]
                $(#[$meta])* $(also [$($alias)*])? fn $name $args $(-> $ret)? $body
            )*
        }
    };
    ($($(#[$meta:meta])* $(also [$($alias:ident)*])? fn $name:ident $args:tt $(-> $ret:ty)? $body:block)*) => {
        $(
            $crate::export::export!(@one [$(#[$meta])*] $name $args [$($ret)?] $body);
            $crate::export::export!(@aliases $name [$($($alias)*)?] $args [$($ret)?]);
        )*
    };
    (@aliases $name:ident [] $args:tt $ret:tt) => {};
    (@aliases $name:ident [$alias:ident $($more:ident)*] $args:tt $ret:tt) => {
        $crate::export::export!(@alias $name $alias $args $ret);
        $crate::export::export!(@aliases $name [$($more)*] $args $ret);
    };
    (@one [$($meta:tt)*] $name:ident ($($arg:ident: $type:ty),* $(,)?) [$($ret:ty)?] $body:block) => {
        $($meta)*
        #[allow(non_snake_case, reason = "as in C")]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub(crate) unsafe extern "C-unwind" fn $name($($arg: $type),*) $(-> $ret)? $body
    };
    (@alias $name:ident $alias:ident ($($arg:ident: $type:ty),* $(,)?) [$($ret:ty)?]) => {
        #[doc = concat!("Alias of `", stringify!($name), "`.")]
        #[allow(non_snake_case, reason = "as in C")]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub(crate) unsafe extern "C-unwind" fn $alias($($arg: $type),*) $(-> $ret)? {
            // SAFETY: the same contract under another name.
            unsafe { $name($($arg),*) }
        }
    };
}

pub(crate) use export;
