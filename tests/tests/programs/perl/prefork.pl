# A server of three processes that share a listening socket: each line is answered in capitals, and
# "sum" with the digest of what follows.
use strict;
use warnings;
use Digest::SHA;
use IO::Select;
use IO::Socket::INET;

my $listener = IO::Socket::INET->new(
    LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1
) or die "cannot listen: $!";
my @children;
for (1 .. 3) {
    my $pid = fork() // die "cannot fork: $!";
    if ($pid == 0) { serve(); exit 0 }
    push @children, $pid;
}
$SIG{TERM} = sub { kill TERM => @children; exit 0 };
sleep 1 while waitpid(-1, 0) > 0;

sub serve {
    my $select = IO::Select->new($listener);
    while (my ($ready) = $select->can_read) {
        my $client = $listener->accept or next;
        my $first = <$client> // '';
        if ($first eq "sum\n") {
            my $digest = Digest::SHA->new(256);
            $digest->addfile($client);
            print $client $digest->hexdigest, "\n";
        } else {
            do { print $client uc $first } while defined($first = <$client>);
        }
        close $client;
    }
}
