# Prints "result signer" for each DKIM signature of the message on stdin, by Mail::DKIM; arguments: NAME VALUE pairs of TXT records.
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Net::DNS;

my %records = @ARGV;

package Records {
    sub send {
        my ($self, $name, $type) = @_;
        my $packet = Net::DNS::Packet->new($name, $type);
        my $value  = $records{$name};
        $packet->header->rcode(defined $value ? 'NOERROR' : 'NXDOMAIN');
        $packet->push(answer => Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(a255)*', $value])) if defined $value;
        return $packet;
    }
    sub errorstring { 'NOERROR' }
}

$Mail::DKIM::DNS::RESOLVER = bless {}, 'Records';
my $verifier = Mail::DKIM::Verifier->new;
binmode STDIN;
while (read STDIN, my $chunk, 65536) { $verifier->PRINT($chunk) }
$verifier->CLOSE;
print $_->result, ' ', $_->algorithm, "\n" for $verifier->signatures;
