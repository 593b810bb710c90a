//! scratch
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_domain::*; use facewire_inference::*; use facewire_vision::*; use std::path::*;
fn rt()->OnnxRuntime{OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap()}
fn cos(a:&[f32],b:&[f32])->f32{a.iter().zip(b).map(|(x,y)|x*y).sum()}
fn border(img:&RgbImage,frac:f32,mode:u8)->(RgbImage,f32){
  let p=(img.width().max(img.height()) as f32*frac).round();
  let (w,h)=(img.width() as f32,img.height() as f32);
  if mode==0 { (crop(img,&BoundingBox{x1:-p,y1:-p,x2:w+p,y2:h+p}),p) }
  else { let pi=p as i64; let m:u64=img.data().iter().map(|v|*v as u64).sum::<u64>()/img.data().len() as u64;
   (RgbImage::from_fn(img.width()+2*p as u32,img.height()+2*p as u32,|x,y|{let (x,y)=(x as i64-pi,y as i64-pi); 
    if mode==2 && (x<0||y<0||x>=img.width() as i64||y>=img.height() as i64){return [m as u8;3]}
    img.pixel(x.clamp(0,img.width() as i64-1) as u32,y.clamp(0,img.height() as i64-1) as u32).unwrap()}),p)}
}
fn shift(mut f:FoundFace,p:f32)->FoundFace{ f.bbox.x1-=p;f.bbox.x2-=p;f.bbox.y1-=p;f.bbox.y2-=p; for l in f.landmarks.iter_mut(){l.x-=p;l.y-=p} f}
fn main(){
 let pack=Pack::open(Path::new("/tmp/fw/default")).unwrap(); let rt=rt(); let o=SessionOptions::default();
 let mut finder=pack.finder(&rt,&o).unwrap(); let mut emb=pack.embedder(&rt,&o).unwrap();
 let data=Path::new("/work/shared/data");
 let mut files:Vec<PathBuf>=std::fs::read_dir(data.join("pairs")).unwrap().map(|e|e.unwrap().path()).filter(|p|p.extension().unwrap()!="csv").collect();
 for d in std::fs::read_dir(data.join("people/enroll")).unwrap(){ for f in std::fs::read_dir(d.unwrap().path()).unwrap(){files.push(f.unwrap().path())}}
 for f in std::fs::read_dir(data.join("people/probe")).unwrap(){files.push(f.unwrap().path())}
 files.sort();
 let variants:Vec<(&str,f32,u8)>=vec![("none",0.0,0),("black.15",0.15,0),("black.25",0.25,0),("black.5",0.5,0),("repl.25",0.25,1),("mean.25",0.25,2),("mean.5",0.5,2)];
 let margins=[-0.08f32,-0.03,0.0,0.05,0.1,0.2,0.4,0.8];
 // stats[variant][margin]=(found,bad landmarks,sumcos,badcos)
 let mut st=vec![vec![(0,0,0f32,0);margins.len()];variants.len()]; let mut n=0;
 let mut scat=vec![];
 for file in &files{
  let img=decode(&std::fs::read(file).unwrap(),&DecodeLimits::default()).unwrap();
  let found=finder.find(&img).unwrap();
  let name=file.strip_prefix(data).unwrap().display().to_string();
  let geo:Vec<String>=found.iter().map(|f|format!("[{:.0}px s={:.2} res={:.1}]",f.bbox.width().min(f.bbox.height()),f.detection_score,{let t=align::Similarity::fit(&f.landmarks,&align::TEMPLATE).unwrap();t.residual(&f.landmarks,&align::TEMPLATE)})).collect();
  println!("{name:40} {}x{} {}",img.width(),img.height(),geo.join(" "));
  if found.len()!=1 {continue}
  let f0=found[0]; let m0=measure(&img,&f0).unwrap(); let e0=emb.embed(&[m0.face]).unwrap().remove(0); n+=1;
  let eye=f0.landmarks[0].distance(f0.landmarks[1]);
  for (mi,m) in margins.iter().enumerate(){
   let mg=f0.bbox.width().max(f0.bbox.height())*m;
   let b=BoundingBox{x1:f0.bbox.x1-mg,y1:f0.bbox.y1-mg,x2:f0.bbox.x2+mg,y2:f0.bbox.y2+mg}.clip(img.width() as f32,img.height() as f32);
   let b=BoundingBox{x1:b.x1.round(),y1:b.y1.round(),x2:b.x2.round(),y2:b.y2.round()};
   let c=crop(&img,&b);
   for (vi,(_vn,fr,mode)) in variants.iter().enumerate(){
     let (bi,p)=if *fr>0.0{border(&c,*fr,*mode)}else{(c.clone(),0.0)};
     let ff=finder.find(&bi).unwrap();
     if let Some(f)=ff.first(){ let f=shift(*f,p); st[vi][mi].0+=1;
       let d=f.landmarks.iter().zip(&f0.landmarks).map(|(a,q)|Point::new(a.x+b.x1,a.y+b.y1).distance(*q)).fold(0f32,f32::max)/eye;
       let me=measure(&c,&f).unwrap(); let e=emb.embed(&[me.face]).unwrap().remove(0); let cc=cos(&e,&e0);
       if d>0.25{st[vi][mi].1+=1} st[vi][mi].2+=cc; if cc<0.7{st[vi][mi].3+=1}
       if vi==0||vi==2{scat.push((vi,*m,f.detection_score,me.quality.landmarks_score,(1.0/me.quality.landmarks_score-1.0).sqrt()*8.0,d,cc))}
     }
   }
  }
 }
 println!("n={n}");
 for (vi,v) in variants.iter().enumerate(){ for (mi,m) in margins.iter().enumerate(){let s=st[vi][mi]; println!("{:10} margin {m:+.2}: found {:2} badlm {:2} meancos {:.3} cos<.7 {}",v.0,s.0,s.1,s.2/s.0.max(1) as f32,s.3);} }
 scat.sort_by(|a,b|a.6.total_cmp(&b.6)); for s in scat.iter().take(70){println!("v{} m{:+.2} det={:.2} score={:.2} res={:.1} d={:.2} cos={:.2}",s.0,s.1,s.2,s.3,s.4,s.5,s.6)}
}
