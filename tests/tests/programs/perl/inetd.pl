# What inetd starts: its standard input and output are one connected socket.
use strict;
use warnings;
use Socket;

$| = 1;
my ($port) = sockaddr_in(getsockname(STDIN));
print "port $port\n";
my $lines = 0;
while (<STDIN>) {
    print uc;
    $lines++;
}
print "lines $lines\n";
