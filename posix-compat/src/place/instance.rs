//! A stack instance of any kind that the preload can use.

use dmm_nsocket::stack::{PlaceError, Placed, Refusal, Request, Socket, Stack};
use dmm_policy::{StackDef, StackKind};

/// An instance, by its definition in the policy.
pub(super) enum Instance<'p> {
    /// A kernel instance; also what this build has no stack for, which then refuses.
    Kernel(dmm_stack_kernel::Instance<'p>),
    /// Shared memory.
    Local(dmm_stack_local::Instance<'p>),
}

impl<'p> Instance<'p> {
    pub(super) fn new(def: StackDef<'p>) -> Self {
        match def.kind {
            StackKind::Local => Self::Local(dmm_stack_local::Instance::new(&def)),
            _ => Self::Kernel(dmm_stack_kernel::Instance::new(def)),
        }
    }

    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    fn stack(&self) -> &dyn Stack {
        match self {
            Self::Kernel(instance) => instance,
            Self::Local(instance) => instance,
        }
    }
}

impl Stack for Instance<'_> {
    fn name(&self) -> &str {
        self.stack().name()
    }

    fn kind(&self) -> StackKind {
        self.stack().kind()
    }

    fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        self.stack().admit(request)
    }

    fn place(&self, request: &Request<'_>, socket: &mut dyn Socket) -> Result<Placed, PlaceError> {
        self.stack().place(request, socket)
    }
}
